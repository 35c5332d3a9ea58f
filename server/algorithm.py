"""An algorithm of one's own: selection, weights, server step and client step in one class.

`coordination.algorithm = "module:Class"` names it. What its class defines takes the place of what
is configured; what it leaves out stays as configured. Its fields are its options, which
`coordination.options = "tau=0.1"` sets and a grid sweeps. What passes from round to round is its
state: named arrays, which checkpoints carry. Its methods change nothing, they return what is new: a
run and its shadow are decided from the same state.

None of it runs on a client. A client is given one thing, numbers to add to the gradient of each of
its steps, behind clipping and noise. They depend on its clips through what its ledger covers alone,
so they cost no privacy, and a device runs nobody's code for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.config.rules import MODELS
from fnl.errors import ConfigError, RunError
from fnl.import_path import imported
from fnl.training.plan import TrainingPlan, plan_of
from fnl.weights import Weights, weighted_mean
from fnl.wire.report import ClientReport
from server.aggregation import Mixing
from server.context import RoundContext, State
from server.declaration import Declared, check_names
from server.selection import Scores, Selection

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Taken:
    """What a round has taken from its clients, before the server steps.

    Attributes:
        context: the round, with the state before it.
        before: the global weights that the selected started from.
        reports: of the selected, best first; shown of them is what the algorithm reads.
        shares: of each in the aggregate, float64 [m]; None where a robust rule combined them.
        aggregate: of their models.
        config: of the run.
    """

    context: RoundContext
    before: Weights
    reports: Sequence[ClientReport]
    shares: NDArray[np.float64] | None
    aggregate: Weights
    config: Config
    _models: Sequence[Weights] | None

    @property
    def models(self) -> Sequence[Weights]:
        """Weights that the selected sent, in the order of `reports`.

        Raises:
            RunError: if the algorithm does not declare that it reads them.
        """
        if self._models is None:
            raise RunError(
                f"coordination.algorithm = {self.config.coordination.algorithm!r} reads the "
                f"clients' models, which it does not declare: put {MODELS!r} into its `reads`"
            )
        return self._models

    @property
    def updates(self) -> list[Weights]:
        """What the selected changed: their models less `before`."""
        return [
            {name: value - self.before[name] for name, value in model.items()}
            for model in self.models
        ]

    def mean(self, shares: Sequence[float] | NDArray[np.float64]) -> Weights:
        """Return the mean of `models` with these shares, rounded as the usual aggregate is."""
        return weighted_mean(self.models, [float(share) for share in shares])

    def plan(self, report: ClientReport) -> TrainingPlan:
        """Return the steps that a client took in this round, and their learning rate."""
        return plan_of(self.config, report.num_examples, self.context.server_round)


@dataclass(frozen=True)
class Stepped:
    """What an algorithm makes of a round.

    Attributes:
        weights: towards which the server's optimizer steps; without one, the next global weights.
        state: for the next round.
        shares: of the selected, for the tables, float64 [m]; None: those that it was given.
    """

    weights: Weights
    state: State
    shares: NDArray[np.float64] | None = None


class Algorithm:
    """Base of algorithms; define what is to differ. Subclasses with options are dataclasses.

    Attributes:
        reads: what its methods read of a client: names in `fnl.wire.report.ENTRIES`, and "models"
            for the weights. None, undeclared, lets them read all, and counts as outside of any
            guarantee.
    """

    reads: ClassVar[Sequence[str] | None] = None

    def check(self, config: Config) -> None:
        """Raise a `ConfigError` for a configuration that it does not go with."""

    def start(self, weights: Weights, config: Config) -> State:
        """Return the state before the first round."""
        del weights, config
        return {}

    def select(self, reports: Sequence[ClientReport], context: RoundContext) -> Scores | Selection:
        """Score the candidates, or select, as a selection rule; `context.state` has the state."""
        raise NotImplementedError

    def weigh(
        self, reports: Sequence[ClientReport], context: RoundContext
    ) -> NDArray[np.float64] | Mixing:
        """Weigh the selected, as an aggregation rule does."""
        raise NotImplementedError

    def step(self, taken: Taken) -> Stepped:
        """Return the next weights and the next state."""
        return Stepped(taken.aggregate, taken.context.state)

    def correction(self, state: State, partition: int) -> Weights | None:
        """Return what a client adds to the gradient of each of its steps; None for nothing."""
        del state, partition
        return None

    def defines(self, method: str) -> bool:
        """Return whether the class has a `method` of its own."""
        return getattr(type(self), method) is not getattr(Algorithm, method)

    def as_rule(self, method: str) -> Any:
        """Return `select` or `weigh` as a rule, shown what the algorithm reads alone."""
        rule = getattr(self, method)
        return rule if self.reads is None else Declared(rule, frozenset(self.reads))

    def shown(self, reports: Sequence[ClientReport]) -> Sequence[ClientReport]:
        """Return the reports as `step` sees them."""
        if self.reads is None:
            return reports
        declared = Declared(self.step, frozenset(self.reads))  # pyright: ignore[reportArgumentType] names it in messages
        return [declared.shown(report) for report in reports]


def algorithm_of(config: Config) -> Algorithm | None:
    """Return the configured algorithm with its options; None without.

    Raises:
        ConfigError: if there is no such class, or an option is none of its own.
    """
    name = config.coordination.algorithm
    if name == "none":
        return None
    kind = imported("coordination.algorithm", name)
    if not (isinstance(kind, type) and issubclass(kind, Algorithm)):
        raise ConfigError(
            f"coordination.algorithm = {name!r} is no class below fnl.Algorithm: rules that are "
            "functions go into coordination.selection and coordination.aggregation"
        )
    check_names(kind.reads or (), f"{kind.__name__}.reads", also=(MODELS,))
    options = _options(kind, config.coordination.options)
    try:
        algorithm = kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"coordination.options = {config.coordination.options!r}: {error}"
        ) from None
    algorithm.check(config)
    return algorithm


def checked_state(returned: object, name: str) -> State:
    """Return an algorithm's state by sorted names, its arrays no longer to be changed.

    Raises:
        RunError: if it is anything else than named arrays of numbers.
    """
    wrong = f"the state of coordination.algorithm = {name!r} must be named arrays of numbers"
    if not isinstance(returned, Mapping):
        raise RunError(f"{wrong}, not {type(returned).__name__}")
    state: dict[str, NDArray[Any]] = {}
    for key in sorted(returned, key=str):
        array = np.asarray(returned[key])
        if not isinstance(key, str) or array.dtype.kind not in "biuf":
            raise RunError(f"{wrong}: {key!r} is {array.dtype}")
        state[key] = array.view()
        state[key].flags.writeable = False
    return state


def checked_like(returned: Mapping[str, Any], like: Weights, what: str) -> Weights:
    """Return `returned` as single-precision arrays shaped as the global weights.

    Raises:
        RunError: naming the first array that is not.
    """
    if returned.keys() != like.keys():
        odd = min(returned.keys() ^ like.keys())
        raise RunError(f"{what} must have an array a weight of the model: see {odd!r}")
    found = {name: np.asarray(returned[name], np.float32) for name in like}
    for name, value in found.items():
        if value.shape != like[name].shape or not np.isfinite(value).all():
            raise RunError(f"{what} has {name} of shape {value.shape}, or not finite")
    return found


def _options(kind: type[Algorithm], text: str) -> dict[str, Any]:
    """Return the options in `text` as the fields of `kind` have them."""
    own = {one.name: one for one in fields(kind)} if is_dataclass(kind) else {}
    hints = get_type_hints(kind)
    options: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in own:
            known = ", ".join(own) or "none"
            raise ConfigError(
                f"coordination.options: {part!r} is no option=value of {kind.__name__}, whose "
                f"options are: {known}"
            )
        options[name] = _value(name, value.strip(), hints[name])
    missing = [
        name
        for name, one in own.items()
        if name not in options and one.default is MISSING and one.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"coordination.options lacks {missing[0]}, which {kind.__name__} needs")
    return options


def _value(name: str, text: str, kind: object) -> bool | int | float | str:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float and math.isfinite(number := float(text)):
            return number
    except (KeyError, ValueError):
        pass
    if kind is str:
        return text
    wanted = next((words for known, words in _KINDS.items() if known is kind), f"not of {kind}")
    raise ConfigError(f"coordination.options: {name} = {text!r} must be {wanted}")
