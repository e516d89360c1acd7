"""The job: run.py is the path as code."""
