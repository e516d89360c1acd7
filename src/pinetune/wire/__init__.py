"""OpenAI's request and response shapes, one file per resource, no behaviour."""
