"""How far a ranking survives noise: a law, from what is known before training. Pure functions."""
