"""One file per grader type, the template language, and build (definition to Grader)."""
