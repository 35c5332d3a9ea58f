"""The gradient of each clip of a batch."""
