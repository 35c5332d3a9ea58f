"""Grids of runs, analysis and figures: drives runs and reads their files."""
