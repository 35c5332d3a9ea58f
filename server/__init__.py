"""The Flower ServerApp: rate-based selection, aggregation and measurement."""
