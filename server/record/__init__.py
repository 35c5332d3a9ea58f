"""What a run writes down: rows, comparison with shadows, faults."""
