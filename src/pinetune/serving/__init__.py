"""Sampling finished models for /v1/chat/completions, /v1/responses, /v1/models and /v1/embeddings."""
