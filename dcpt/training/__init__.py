"""Training: models, the training loop, and losses of every channel (torch)."""
