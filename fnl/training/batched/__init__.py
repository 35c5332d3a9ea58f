"""Several clients trained as one batch, each in its own weights, clips and noise."""
