"""Reading: find any rollout or eval answer of a run, and write down what an expert thinks of its grade."""
