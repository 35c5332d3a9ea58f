"""Engines, run directories and files."""
