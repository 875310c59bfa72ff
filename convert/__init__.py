"""Checkpoints of PyTorch, Hugging Face and this project, from any one to any other: `edgetam-jax convert --help`."""

# The two packages use each other's modules. Whichever is imported first, edgetam_jax goes on from here.
import edgetam_jax as edgetam_jax
