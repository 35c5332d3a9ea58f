"""Empirical lower bounds on ε: what an attack on released weights or rates can prove."""

from fnl import quick_imports as quick_imports  # before any module here imports Opacus
