"""What a run will come to, from public facts and a pilot on synthetic clips."""
