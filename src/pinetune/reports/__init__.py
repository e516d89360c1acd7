"""A finished run as something to look at: HTML, PNG, summary."""
