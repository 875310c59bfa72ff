"""What the compilers for GPU and TPU make of our programs, asked on a machine that has neither."""
