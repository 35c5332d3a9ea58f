"""fnl: federated spiking neural networks under differential privacy.

    import fnl

    run = fnl.run(privacy={"epsilon": 4}, run={"rounds": 10})
    run.rounds.select("round", "accuracy", "firing_rate")

Everything a user may import is here by name. A name is loaded when it is first used, so that
`import fnl` takes no PyTorch and no time.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fnl.own_packages import put_first

if TYPE_CHECKING:
    from fnl import metrics
    from fnl.api.grid import Grid, open_grid, run_grid
    from fnl.api.pieces import build_network, configuration, evaluate, federation, partition
    from fnl.api.plan import Plan, plan
    from fnl.api.run import Run, open_run, resume, run
    from fnl.config import Config
    from fnl.errors import FnlError
    from fnl.runtime.callbacks import Callback
    from fnl.wire.report import ClientReport
    from server.algorithm import Algorithm, Stepped, Taken
    from server.context import RoundContext
    from server.declaration import reads

put_first()

try:
    __version__ = version("fnl")
except PackageNotFoundError:  # running from an unpacked Flower app bundle, not installed
    __version__ = "0.1.0"

_HOMES = {
    "fnl.api.run": ("run", "resume", "open_run", "Run"),
    "fnl.api.grid": ("run_grid", "open_grid", "Grid"),
    "fnl.api.pieces": ("configuration", "federation", "partition", "build_network", "evaluate"),
    "fnl.api.plan": ("plan", "Plan"),
    "fnl.config": ("Config",),
    "fnl.errors": ("FnlError",),
    "fnl.runtime.callbacks": ("Callback",),
    "fnl.wire.report": ("ClientReport",),
    "server.algorithm": ("Algorithm", "Stepped", "Taken"),
    "server.context": ("RoundContext",),
    "server.declaration": ("reads",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Algorithm",
    "Callback",
    "ClientReport",
    "Config",
    "FnlError",
    "Grid",
    "Plan",
    "RoundContext",
    "Run",
    "Stepped",
    "Taken",
    "__version__",
    "build_network",
    "configuration",
    "evaluate",
    "federation",
    "metrics",
    "open_grid",
    "open_run",
    "partition",
    "plan",
    "reads",
    "resume",
    "run",
    "run_grid",
]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("fnl.metrics")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fnl' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
