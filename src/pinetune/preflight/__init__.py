"""Before a job: is the data sound, the grader sharp, the task learnable, the run affordable."""
