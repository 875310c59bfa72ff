"""The commands, a module each, whose `main` takes the rest of the line. Their table is in `edgetam_jax.cli`."""
