"""Weights by direction, after FLTrust (Cao et al. 2020, arXiv 2012.13995).

    python examples/cosine_weights.py

An update counts by how far it points where the model has been going, and all updates that count
are as long as each other. FLTrust takes the direction from clean clips that the server has; here
it is the moving average of the global steps so far, and in the first round the median update.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

import fnl


@dataclass(frozen=True)
class CosineWeights(fnl.Algorithm):
    """w_k ∝ max(0, cos(Δ_k, reference)); every Δ_k is scaled to the reference's length."""

    memory: float = 0.5
    """Share of the reference that stays when a round is done."""

    reads = ("models",)

    def step(self, taken: fnl.Taken) -> fnl.Stepped:
        """Return the step, and the reference of the next round."""
        updates = np.array([_flat(update) for update in taken.updates], np.float64)
        reference = taken.context.state.get("reference", np.median(updates, axis=0))
        length = np.linalg.norm(reference)
        lengths = np.linalg.norm(updates, axis=1)
        cosines = updates @ reference / np.maximum(lengths * length, 1e-30)
        trusted = np.maximum(0.0, cosines)
        if trusted.sum() == 0:  # nobody is trusted: the model stays
            return fnl.Stepped(taken.before, {"reference": reference}, trusted)
        shares = trusted / trusted.sum()
        step = (shares * length / np.maximum(lengths, 1e-30)) @ updates
        following = self.memory * reference + (1 - self.memory) * step
        return fnl.Stepped(_moved(taken.before, step), {"reference": following}, shares)


def _flat(weights):
    return np.concatenate([value.ravel() for value in weights.values()])


def _moved(weights, step):
    ends = np.cumsum([value.size for value in weights.values()])
    parts = np.split(step, ends[:-1])
    return {
        name: value + part.reshape(value.shape)
        for (name, value), part in zip(weights.items(), parts, strict=True)
    }


def main() -> None:
    """Run ten rounds and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    run = fnl.run(
        data={"clients": 5, "speakers": 40, "clips_per_word": 2, "frame_hop_ms": 50},
        training={"batch_size": 40},
        coordination={
            "candidates": 4,
            "selected": 4,
            "selection": "random",
            "aggregation": "fedavg",
            "algorithm": CosineWeights,
            "options": {"memory": 0.9},
        },
        run={"rounds": parser.parse_args().rounds},
    )
    print(f"accuracy {run.accuracy:.3f} (synthetic clips), ε = {run.epsilon:.2f}")
    weights = run.clients.filter("selected").group_by("partition").mean().sort("partition")
    for partition, weight in weights.select("partition", "weight").rows():
        print(f"client {partition}: mean weight {weight:.3f}")


if __name__ == "__main__":
    main()
