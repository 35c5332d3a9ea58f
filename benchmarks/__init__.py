"""How long things take, against peers and against what the arithmetic itself needs."""
