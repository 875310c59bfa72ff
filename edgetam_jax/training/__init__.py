"""Training: recipes, rollouts with a simulated user, losses, the training step, and distillation."""
