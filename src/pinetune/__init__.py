"""Pinetune: reinforcement fine-tuning on your own machines."""

__version__ = "0.1.0"
