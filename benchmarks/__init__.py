"""Measurements of speed, memory and parity. They import `edgetam_jax`, `convert` and `tests`, never the reverse."""
