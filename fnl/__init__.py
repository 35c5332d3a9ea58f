"""fnl: federated spiking neural networks under differential privacy."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fnl")
except PackageNotFoundError:  # running from an unpacked Flower app bundle, not installed
    __version__ = "0.1.0"

__all__ = ["__version__"]
