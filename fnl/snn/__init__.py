"""Spiking neurons, networks and their firing statistics."""
