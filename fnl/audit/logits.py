"""What a client's network says of clips, one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from fnl.clip_draws import DrawKeys
from fnl.snn.evaluation import EVALUATION_SEED
from fnl.snn.network import set_draws
from fnl.training.client import LocalTraining
from fnl.weights import Weights


@torch.no_grad()
def logits_of(client: LocalTraining, weights: Weights) -> Tensor:
    """Return the logits of a client's clips under `weights`, [n, C], drawn as in evaluation."""
    network = client.network(weights).cpu().eval()
    draws = DrawKeys.seeded(EVALUATION_SEED).of(client.features)
    set_draws(network, draws.batch(slice(None), step=0))
    return network(client.features)
