"""The Flower ClientApp: local training on a client's own clips."""
