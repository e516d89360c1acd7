"""The command line; each command calls one function of a room below."""
