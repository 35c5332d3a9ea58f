"""Gradient inversion: what clips look like, guessed from one update of a client."""
