"""Sampling: draw completions from a model. `local.py` is our own engine; other engines speak the same Sampler protocol."""
