"""Models: load Hugging Face weights (full or LoRA) with their chat template, and save folders that plain transformers opens."""
