"""Hugging Face weights: load, LoRA, chat format, export."""
