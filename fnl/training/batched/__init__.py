"""Several clients trained as one batch, each with weights, clips, noise and optimizer of its own."""
