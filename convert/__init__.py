"""The checkpoint converter of edgetam_jax, as a tool: `python -m convert`, which is `edgetam-jax convert`.

This package belongs to the project edgetam-jax and is installed with it. It contains the command line and the
verification against published numbers; reading, mapping and writing checkpoints is in `edgetam_jax.checkpoints`.
"""
