"""Checkpoints of PyTorch, Hugging Face and this project, from any one to any other: `python -m convert --help`."""
