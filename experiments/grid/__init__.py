"""Grids: many runs from one file, their tables and their statistics."""
