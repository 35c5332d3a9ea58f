"""What client-level noise costs by how candidates are asked: by chance, in turn, or in secret.

python -m benchmarks.client_sampling
"""

from __future__ import annotations

import numpy as np

from fnl.config import parse_config
from fnl.privacy.budget import delta_of
from fnl.privacy.client_level import epsilon_of_whoever_was_asked, planned_noise
from fnl.privacy.ledger import calibrate
from fnl.schedule import planned_participations

EPSILON = 8.0
SEEDS = 20
SHAPES = (
    (20, 12, 30), (20, 4, 30), (20, 2, 30), (20, 4, 100),
    (200, 20, 30), (200, 20, 100), (200, 10, 100), (1000, 50, 100),
)  # fmt: skip
"""N, d, R."""


def noise(clients: int, rounds: int, rate: float = 1.0) -> float:
    """Return the least z of `rounds` rounds at a sampling rate: ε = 8, δ = 1/(10 N), PRV."""
    return calibrate(
        epsilon=EPSILON,
        delta=delta_of(0.0, clients),
        sample_rate=rate,
        steps=rounds,
        accountant="prv",
    )


def main() -> None:
    """Print a row a federation: z of the three, and how many times less the last one is."""
    print("| N, d, R | z, drawn | z, in turn | z, in secret | ÷ drawn | ÷ in turn | known: ε |")
    print("|---|---|---|---|---|---|---|")
    for clients, asked, rounds in SHAPES:
        busiest = [
            int(planned_participations(seed, rounds, clients, asked).max()) for seed in range(SEEDS)
        ]
        drawn = float(np.mean([noise(clients, most) for most in busiest]))
        in_turn = noise(clients, -(-rounds * asked // clients))
        config = parse_config(
            {
                "data.clients": clients, "run.rounds": rounds, "privacy.mode": "client",
                "coordination.candidates": asked, "coordination.selected": asked,
                "coordination.selection": "random", "coordination.aggregation": "fedavg",
                "coordination.schedule": "poisson", "privacy.client-epsilon": EPSILON,
            }
        )  # fmt: skip
        secret, known = planned_noise(config), epsilon_of_whoever_was_asked(config)
        cells = f"{drawn:.2f} | {in_turn:.2f} | {secret:.3f} | {drawn / secret:.2f}"
        cells += f" | {in_turn / secret:.2f} | {known:.0f}"
        print(f"| {clients}, {asked}, {rounds} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
