"""Spiking networks by name, one file each; `fnl.snn.network` builds them."""
