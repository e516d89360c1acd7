"""Drawing completions: our own engine for this machine."""
