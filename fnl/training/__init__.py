"""What a client does to a model: one round of local training."""

from fnl import quick_imports as quick_imports  # before any module here imports Opacus
