"""One round of one client, as its app does it."""

from __future__ import annotations

from fnl.config import Scalar, parse_config
from fnl.data.federated import open_federation
from fnl.privacy.ledger import Ledger
from fnl.snn.network import build_network, initialise
from fnl.training.local import LocalRound, train_round
from fnl.weights import get_weights


def round_of_a_client(
    flat: dict[str, Scalar],
    *,
    ledger: Ledger | None = None,
    partition: int = 2,
    server_round: int = 1,
) -> LocalRound:
    """Train one client for one round from the weights of seed 0."""
    config = parse_config(flat)
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, 0)
    return train_round(
        config,
        federation,
        partition=partition,
        server_round=server_round,
        weights=get_weights(network),
        ledger=ledger or Ledger(),
    )
