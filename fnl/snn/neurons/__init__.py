"""Spiking neurons, and the read-out."""
