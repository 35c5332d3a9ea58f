"""DP-SGD and privacy ledgers."""

from fnl import quick_imports as quick_imports  # before any module here imports Opacus
