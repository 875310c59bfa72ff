"""Checkpoints: reading, writing, and the mapping between the three layouts of the tensors."""
