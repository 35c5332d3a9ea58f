"""Empirical lower bounds on ε: what an attack on released weights or rates can prove."""
