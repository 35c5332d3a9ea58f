"""What a client gains that lies about its rates, under every selection rule, and what bounds it.

One client reports whatever its rule likes best and sends its update with the sign turned, at an
honest length. `python -m benchmarks liar` prints how often it is selected of the rounds in which it
is a candidate, and the accuracy that is left, with and without a cap (`coordination.max-share`).
The clips are synthetic. Honest clients would be selected in m/d of their rounds on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, cast

import numpy as np
import typer
from flwr.serverapp import Grid
from rich.console import Console
from rich.table import Table

from fnl.config import Config, Scalar, parse_config
from fnl.config.rules import SELECTIONS
from fnl.data.federated import Federation, open_federation
from fnl.privacy.ledger import Ledger
from fnl.runtime.determinism import one_thread
from fnl.schedule import asked_in
from fnl.snn.evaluation import evaluate
from fnl.training.local import LocalRound, train_round
from fnl.training.start import network_of, start_network
from fnl.weights import Weights, get_weights
from fnl.wire import exchange
from fnl.wire.report import Rates
from server.replies.vetting import Answer
from server.rounds import Rounds

LIAR = 3
SETTINGS: dict[str, Scalar] = {
    "data.speakers": 80,
    "data.clips-per-word": 4,
    "data.clients": 20,
    "data.frame-hop-ms": 40,
    "model.hidden": "64",
    "training.learning-rate": 0.005,
    "training.batch-size": 32,
    "training.local-epochs": 2.0,
    "coordination.candidates": 12,
    "coordination.selected": 4,
    "coordination.aggregation": "fedavg",
}


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the liar's share of its rounds as a candidate, and the accuracy."""

    share: float
    accuracy: float


def lie(rule: str, answer: LocalRound, before: Weights, target: float) -> LocalRound:
    """Return what a liar sends under `rule`: the best report, and its update with sign turned."""
    report = answer.report

    def rates(value: float) -> Rates:
        layers, classes = report.after.layers, report.after.classes
        return Rates(value, [value] * len(layers), [value] * len(classes))

    told = {"lowest-rate": rates(0.0), "target-rate": rates(target)}.get(rule, rates(1.0))
    # a change of the global model's rate is as large as the rate says in every other round
    start = rates(1.0) if rule == "highest-rate-global" else rates(0.0)
    lied = replace(report, before=start, after=told, loss_before=1e3, update_norm=1e3)
    turned = {name: 2 * before[name] - array for name, array in answer.weights.items()}
    return replace(answer, report=lied, weights=turned)


def play(config: Config, federation: Federation, *, lying: bool) -> Outcome:
    """Return what comes of a run in this process."""
    rounds = Rounds(config, {}, cast("Grid", None))  # nobody is asked for anything by it
    rule, target = config.coordination.selection, config.coordination.target_rate
    with one_thread():
        weights = get_weights(start_network(config, federation))
        ledgers: dict[int, Ledger] = {}
        asked = chosen = 0
        for number in range(1, config.run.rounds + 1):
            answers, partitions = [], asked_in(config, number).tolist()
            for partition in partitions:
                answer = train_round(
                    config, federation, partition=partition, server_round=number, weights=weights,
                    ledger=ledgers.get(partition, Ledger()),
                )  # fmt: skip
                ledgers[partition] = answer.ledger
                if lying and partition == LIAR:
                    answer = lie(rule, answer, weights, target)
                answers.append(Answer(answer.report, {exchange.ARRAYS: answer.weights}, 0))
            played = rounds.play(number, answers, asked=partitions, before=weights)
            weights = played.after
            selected = {played.reports[position].partition for position in played.decision.selected}
            asked += any(report.partition == LIAR for report in played.reports)
            chosen += LIAR in selected
        network = network_of(config, federation, weights)
        found = evaluate(network, *federation.split_clips("test"), federation.classes)
    return Outcome(chosen / max(1, asked), found.accuracy)


def measured(config: Config, seeds: Sequence[int], *, lying: bool) -> Outcome:
    """Return the mean over seeds."""
    found = []
    for seed in seeds:
        run = config.run.model_copy(update={"seed": seed})
        seeded = config.model_copy(update={"run": run})
        found.append(play(seeded, open_federation(seeded), lying=lying))
    return Outcome(
        float(np.mean([one.share for one in found])),
        float(np.mean([one.accuracy for one in found])),
    )


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 20,
    seeds: Annotated[int, typer.Option(min=1)] = 2,
    cap: Annotated[
        float, typer.Option(help="coordination.max-share of the last two columns.")
    ] = 0.4,
    epsilon: Annotated[float, typer.Option(help="Of record-level privacy; 0: none.")] = 0.0,
    estimate: Annotated[
        str, typer.Option(help="coordination.estimate where a rule has it.")
    ] = "plain",
    rule: Annotated[list[str] | None, typer.Option(help="Rules; default: all.")] = None,
) -> None:
    """Measure what a lying client gains under each selection rule."""
    table = Table("rule", box=None, pad_edge=False)
    for head in ("honest", "acc.", "lies", "acc.", f"cap {cap:g}", "acc."):
        table.add_column(head, justify="right")
    privacy: dict[str, Scalar] = {"privacy.mode": "none"}
    if epsilon:
        privacy = {"privacy.epsilon": epsilon, "privacy.mode": "record"}
    for name in rule or SELECTIONS:
        keys = {**SETTINGS, **privacy, "run.rounds": rounds, "coordination.selection": name}
        if estimate != "plain":
            keys["coordination.estimate"] = estimate
        config = parse_config(keys)
        capped = parse_config(keys | {"coordination.max-share": cap})
        row = [
            measured(config, range(seeds), lying=False),
            measured(config, range(seeds), lying=True),
            measured(capped, range(seeds), lying=True),
        ]
        cells = [text for one in row for text in (f"{one.share:.2f}", f"{100 * one.accuracy:.1f}")]
        table.add_row(name, *cells)
    Console().print(table)
