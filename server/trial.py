"""Rules of a user's own, tried on made-up reports before anybody trains.

What they cannot do is found here, on one line, and not after a round of every client. Rules are
copied with what they and their modules keep, and streams are drawn anew by their names. Not tried
are those whose modules keep objects of other kinds. Not copied is what functions, classes and
imported modules keep.
"""

from __future__ import annotations
import __future__

import copy
import math
import random
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass, replace
from types import ModuleType, NoneType
from typing import Any

import numpy as np

from fnl.config import Config
from fnl.errors import RunError
from fnl.privacy.budget import delta_of
from fnl.randomness import Purpose, global_generators, stream
from fnl.schedule import asked_in
from fnl.training.plan import plan_of
from fnl.weights import Weights
from fnl.wire.fields import Part, parts
from fnl.wire.report import ClientReport, Rates, Unprotected
from server.context import History
from server.coordination import Coordinator
from server.counted import known_beforehand
from server.replies.vetting import Shape

_ROUND = 1
_CLIPS = (40, 200)
"""Of a client whose number of clips the server does not know, made up between these."""
_RATES = (0.02, 0.3)
_SIGMA, _EPSILON = 1.0, 0.5
_NUMBER = 3.0
"""The most of a number that is made up by its range alone, if that reaches so far."""
_CHANGE_IN_PLACE = (list, dict, set, deque, np.ndarray, np.random.Generator, random.Random)
_FIXED = (bool, int, float, complex, str, bytes, tuple, frozenset, range)
_FIXED += (ModuleType, NoneType, type(__future__.annotations))
_MOVED = 1e-3
"""Standard deviation of what made-up training adds to a weight."""


def try_own_rules(config: Config, shape: Shape, weights: Weights) -> None:
    """Let a user's own rules play the first round of a run, on what its clients might say.

    Args:
        config: of the run.
        shape: of its reports.
        weights: of its first model.

    Raises:
        RunError: on one line, if a rule fails or returns what it must not.
    """
    chosen = config.coordination
    own = [n for n in (chosen.selection, chosen.aggregation, chosen.algorithm) if ":" in n]
    if not own or config.samples_candidates:  # where nothing is left to rules
        return
    coordinator = Coordinator(config)
    try:
        coordinator = copy.deepcopy(coordinator)
    except Exception:  # whatever its own code says
        return  # it keeps what cannot be copied, and a trial would change it
    modules = {name.partition(":")[0] for name in own}
    if _keep_objects(modules):
        return
    with global_generators(config.run.seed), _copied_globals(modules):
        try:
            _play(coordinator, config, shape, weights)
        except RunError as error:
            error.args = (f"{error} (tried on made-up reports, before any training)",)
            raise


def _play(coordinator: Coordinator, config: Config, shape: Shape, weights: Weights) -> None:
    generator = stream(config.run.seed, Purpose.TRIAL)
    asked = [int(partition) for partition in asked_in(config, _ROUND)]
    made = [made_up_report(config, shape, partition, generator) for partition in asked]
    reports = [known_beforehand(one.partition, one.num_examples) for one in made]
    if not config.is_client_private:
        reports = made
    history, state = History.empty(config.data.clients), coordinator.start(weights)
    for partition in asked:
        coordinator.correction(state, partition, like=weights)
    decision = coordinator.decide(_ROUND, reports, history, state)
    if coordinator.lacking(decision) or coordinator.algorithm is None:
        return
    models = [weights for _ in decision.selected]
    if not config.shares_noise:  # else nobody sees a client's own
        models = [_moved(weights, generator) for _ in decision.selected]
    aggregate = coordinator.combine(_ROUND, reports, models, decision, before=weights)
    _, state, _ = coordinator.step(
        _ROUND, reports, models, (decision, history, state), before=weights, aggregate=aggregate
    )
    for partition in asked:
        coordinator.correction(state, partition, like=weights)


def made_up_report(
    config: Config, shape: Shape, partition: int, generator: np.random.Generator
) -> ClientReport:
    """Return what a client of a run might say: each entry that the run has, finite, in its range.

    What is not known here to depend on the run, or on other entries, is anything of its range.

    Args:
        config: of the run.
        shape: of its reports.
        partition: the client.
        generator: what the numbers come from.
    """
    clips = shape.clips[partition] if shape.clips else int(generator.integers(*_CLIPS))
    plan, hops = plan_of(config, clips, _ROUND), config.data.client_hops
    released, private = config.rate_epsilon > 0, config.is_private
    before, after = (_rates(shape, generator, released=released) for _ in range(2))
    norms = np.sort(generator.uniform(0.1, 3.0, 3)).tolist()
    low, median, high = norms if private else (None, None, None)
    evaluation = config.evaluation

    def unprotected(*, wanted: bool, neurons: bool) -> Unprotected | None:
        if not wanted:
            return None
        rates = _rates(shape, generator, released=released)
        far = generator.uniform(0, 0.1, (2, shape.layers)).tolist()
        norm = float(generator.uniform(0.1, 3.0))
        return Unprotected(rates, far[0], far[1] if neurons else None, norm)

    predicted = evaluation.sensitivity and private
    declared = {part.name: _in_range(part, shape, generator) for part in parts(ClientReport)}
    report = replace(
        ClientReport(**declared),
        partition=partition,
        num_examples=clips,
        frame_hop_ms=int(generator.choice(hops)) if hops else None,
        steps=plan.steps,
        sample_rate=plan.sample_rate,
        before=before,
        after=after,
        rate_noise=config.privacy.rate_clip_norm / clips if released else None,
        update_norm=None if config.shares_noise else float(generator.uniform(0.1, 3.0)),
        train_loss=_loss(shape, generator),
        loss_before=_loss(shape, generator),
        clip_fraction=float(generator.uniform()) if private else None,
        gradient_norm_median=median,
        gradient_norm_q10=low,
        gradient_norm_q90=high,
        clip_norm=config.privacy.clip_norm if private else None,
        noise_multiplier=(config.privacy.noise_multiplier or _SIGMA) if private else None,
        epsilon=_EPSILON if private else None,
        delta=delta_of(config.privacy.delta, clips) if private else None,
        before_in_clear=_rates(shape, generator) if evaluation.shadow and released else None,
        shadow=unprotected(wanted=evaluation.shadow, neurons=True),
        floor=unprotected(wanted=evaluation.floor, neurons=False),
        predicted_rate_shift=float(generator.normal(0, 0.01)) if predicted else None,
        predicted_rate_shift_sd=float(generator.uniform(0, 0.01)) if predicted else None,
    )
    return report.accounted_only() if config.run.strict_privacy else report


def _rates(shape: Shape, generator: np.random.Generator, *, released: bool = False) -> Rates:
    if not shape.layers:
        return Rates(math.nan, [], [math.nan] * shape.classes)
    layers, classes = (generator.uniform(*_RATES, n) for n in (shape.layers, shape.classes))
    part = shape.classes if released else 1  # then it is the class' part of the network's rate
    return Rates(float(layers.mean()), layers.tolist(), (classes / part).tolist())


def _in_range(part: Part, shape: Shape, generator: np.random.Generator) -> Any:
    """Return what a field may hold: of lists of layers' rates one for each, else for each class."""
    if part.kind is Rates:
        return _rates(shape, generator)
    if is_dataclass(part.kind):
        inner = parts(part.kind)
        return part.kind(**{one.name: _in_range(one, shape, generator) for one in inner})
    low = max(part.within.low, -_NUMBER)
    high = min(part.within.high, max(low, 0.0) + _NUMBER)
    if part.kind is int:
        most = math.floor(high)
        return int(generator.integers(min(math.floor(low) + 1, most), most, endpoint=True))
    if part.kind is float:
        return float(generator.uniform(low, high))
    count = shape.layers if part.wire.startswith("layer") else shape.classes
    return generator.uniform(low, high, count).tolist()


def _loss(shape: Shape, generator: np.random.Generator) -> float:
    return math.log(max(2, shape.classes)) * float(generator.uniform(0.5, 1.5))


def _moved(weights: Weights, generator: np.random.Generator) -> Weights:
    return {
        name: (value + generator.normal(0, _MOVED, value.shape)).astype(np.float32)
        for name, value in weights.items()
    }


def _keep_objects(names: set[str]) -> bool:
    """Return whether these modules keep objects of kinds that a trial might change.

    A copy in their place would not do: code may ask whether it is the same object.
    """
    harmless = (*_CHANGE_IN_PLACE, *_FIXED)
    return any(
        not isinstance(value, harmless) and not callable(value)
        for name in names
        if (module := sys.modules.get(name)) is not None
        for key, value in vars(module).items()
        if not key.startswith("__")
    )


@contextmanager
def _copied_globals(names: set[str]) -> Iterator[None]:
    """Let code of these modules see copies of what they keep, and put that itself back."""
    modules = [module for name in names if (module := sys.modules.get(name)) is not None]
    kept = [dict(vars(module)) for module in modules]
    for module, values in zip(modules, kept, strict=True):
        vars(module).update(_copies(values))
    try:
        yield
    finally:
        for module, values in zip(modules, kept, strict=True):
            vars(module).update(values)
            for added in vars(module).keys() - values.keys():
                del vars(module)[added]


def _copies(values: dict[str, object]) -> dict[str, object]:
    """Return copies of the containers and generators among `values`."""
    copies: dict[str, object] = {}
    memo: dict[int, object] = {}
    for name, value in values.items():
        if name.startswith("__") or not isinstance(value, _CHANGE_IN_PLACE):
            continue
        with suppress(Exception):  # whatever it says: it is no thing to copy
            copies[name] = copy.deepcopy(value, memo)
    return copies
