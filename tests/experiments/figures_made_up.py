"""Made-up runs whose numbers follow simple rules of ε and C, so that a figure can be checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from fnl.config import parse_config
from fnl.runtime.tables import CLIENTS, LAYERS, ROUNDS

PARTITIONS, CANDIDATES, SELECTED, LAST = 8, 6, 3, 6
LABELS = ("yes", "no", "up", "go")
SCHEMAS = {"rounds": ROUNDS, "clients": CLIENTS, "layers": LAYERS}


def write_run(path: Path, settings: Mapping[str, object] | None = None) -> Path:
    """Write a finished run; noise falls with ε, rates shift by 0.08/ε − 0.002 C, give or take."""
    settings = dict(settings or {})
    config = parse_config(
        {
            "run.name": path.name,
            "run.rounds": LAST,
            "data.clients": PARTITIONS,
            "coordination.candidates": CANDIDATES,
            "coordination.selected": SELECTED,
            "evaluation.shadow": True,
            "model.hidden": "24,16",
            **settings,
        }
    )
    private, shadow = config.is_private, config.evaluation.shadow
    epsilon, clip_norm = config.privacy.epsilon, config.privacy.clip_norm
    noise = 1 / epsilon if private else 0.0
    shift = 0.08 * noise - 0.002 * clip_norm if private else 0.0
    draw = np.random.default_rng([config.run.seed, int(100 * noise), int(10 * clip_norm)])
    rounds, clients, layers = [], [], []
    for index in range(LAST + 1):
        row: dict[str, object] = {
            "round": index,
            "accuracy": 0.25 + (0.5 - 0.2 * noise) * index / LAST + 0.02 * draw.normal(),
            "loss": 1.4 - 0.1 * index,
            "firing_rate": 0.1 + shift * index / LAST + 0.002 * draw.normal(),
            "activation_sparsity": 0.9 - shift + 0.005 * draw.normal(),
            "silent_fraction": 0.2 + draw.random() / 20,
            "saturated_fraction": 0.0,
            "energy_nj": 40 + 200 * shift + draw.random(),
            "synops_effective_acs": 4e4,
            "footprint_bytes": 40_000,
            "seconds": 0.5,
        }
        layers += [
            {"round": index, "layer": layer, "firing_rate": 0.1 + 0.02 * layer + shift}
            | {"membrane_autocorrelation": 0.8 - shift + 0.01 * draw.normal()}
            for layer in (0, 1)
        ]
        if index:
            row |= {"update_norm": 1 + draw.random(), "effective_clients": 2 + draw.random() / 2}
        if index and private:
            row |= {
                "epsilon_max": epsilon * index / LAST,
                "epsilon_mean": epsilon * index / LAST / 2,
            }
        if index and shadow:
            row |= {"kendall_tau_shadow": np.clip(1 - noise + 0.1 * draw.normal(), -1, 1)}
            row |= {
                "spearman_rho_shadow": np.clip(1 - noise, -1, 1),
                "jaccard_shadow": 1 - noise / 2,
            }
            row |= {"rbo_shadow": 0.8, "flip_rate_shadow": noise / 3, "attenuation": 0.5 + noise}
            row |= {"cosine_shadow": 1 - noise}
        rounds.append(row)
        if not index:
            continue
        asked = sorted(draw.choice(PARTITIONS, CANDIDATES, replace=False).tolist())
        scores = [partition / PARTITIONS + draw.normal() * noise for partition in asked]
        ranks = np.argsort(np.argsort(-np.asarray(scores))) + 1
        for partition, score, rank in zip(asked, scores, ranks.tolist(), strict=True):
            own = shift + 0.01 * draw.normal()
            before = 0.1 + 0.01 * draw.random()
            one = {"round": index, "partition": partition, "score": score, "rank": rank}
            one |= {"selected": rank <= SELECTED, "rate_released": False, "num_examples": 40}
            one |= {"firing_rate_before": before, "firing_rate_after": before + own}
            if private:
                one |= {"epsilon": epsilon * index / LAST, "clip_fraction": 0.7}
                one |= {"gradient_norm_median": 9.0}
            if shadow:
                one |= {"firing_rate_shadow": before, "score_shadow": partition / PARTITIONS}
                one |= {"rank_shadow": 1 + sum(other > partition for other in asked)}
                one |= {"predicted_rate_shift": own + 0.005 * draw.normal()}
                one |= {"predicted_rate_shift_sd": 0.005}
            clients.append(one)
            layers += [
                {"round": index, "layer": layer, "partition": partition}
                | {"firing_rate": before + 0.02 * layer + own}
                | ({"firing_rate_shadow": before + 0.02 * layer} if shadow else {})
                for layer in (0, 1)
            ]
    write_tables(path, rounds=rounds, clients=clients, layers=layers)
    (path / "run.json").write_text(json.dumps(_record(path, config)), encoding="utf-8")
    return path


def write_tables(path: Path, **tables: list) -> None:
    """Make a run directory with these rows in its tables."""
    path.mkdir(parents=True)
    for name, rows in tables.items():
        pl.DataFrame(rows, schema=SCHEMAS[name]).write_parquet(path / f"{name}.parquet")


def write_audit(path: Path) -> None:
    """Write an audit with a sound mechanism and one that its lower bound refutes."""
    rows = {
        "target": ["record", "record", "client"],
        "mechanism": ["gaussian", "gaussian, no clipping", "server noise"],
        "claimed_epsilon": [8.0, 8.0, 4.0],
        "delta": [1e-3, 1e-3, 1e-5],
        "lower_bound": [2.1, 11.5, 0.4],
        "confidence": [0.95, 0.95, 0.95],
        "canaries": [500, 500, 100],
        "guesses": [100, 100, 20],
        "correct": [70, 99, 12],
        "auc": [0.71, 0.999, None],
    }
    pl.DataFrame(rows).write_parquet(path / "audit.parquet")


def _record(path: Path, config) -> dict[str, object]:
    clips = {"test": 200, "train": 320}
    corpus = {"name": "synthetic", "labels": list(LABELS), "synthetic": True, "clips": clips}
    guarantee = {"unit": None, "guarantee": "none", "outside_guarantee": ["everything"]}
    if config.is_private:
        guarantee = {
            "unit": "record: one clip of one client is there, or nothing in its place",
            "guarantee": f"each client's steps are ({config.privacy.epsilon}, 0.001)-DP",
            "caveat": "the number of clips is taken as public",
            "outside_guarantee": ["firing rates", "training loss"],
            "shadows": None,
        }
    return {
        "name": path.name,
        "status": "finished",
        "error": None,
        "engine": "in-process",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:09+00:00",
        "seconds": 9.0,
        "seed": config.run.seed,
        "identity": config.identity(),
        "versions": {"python": "3.11", "fnl": "0.1.0"},
        "corpus": {**corpus, "skipped": 0, "features": "not-cached"},
        "privacy": guarantee,
        "config": config.flat(),
        "model_sha256": "0" * 64,
    }
