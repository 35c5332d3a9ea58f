"""Measurements as pure functions."""
