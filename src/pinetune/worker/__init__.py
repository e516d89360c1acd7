"""Works on jobs: claims one, checks it, runs it in a child process, and tells the store what the child wrote.

    store --claim--> materialize -> JobFolder -> child (torch lives there) -> RunFolder --mirror--> store

A worker holds no torch and nothing that cannot be lost: kill it, its child, or both, at any moment, and another
worker goes on from the last checkpoint.
"""
