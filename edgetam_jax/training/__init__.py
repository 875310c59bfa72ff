"""Training: losses, simulated users, synthetic clips."""
