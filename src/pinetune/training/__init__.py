"""Advantages, losses, packing, the optimizer step, checkpoints."""
