"""What a client does to a model: one round of local training."""
