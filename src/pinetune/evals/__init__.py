"""Rows to an EvalReport: metrics and honest statistics."""
