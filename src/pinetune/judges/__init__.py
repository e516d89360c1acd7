"""Who answers a judge grader: an OpenAI-compatible endpoint or a local model, behind one cache, cap and budget."""
