"""The round's work on Flower's own simulation engine on Ray, in a process of its own.

    python -m benchmarks.round_flower ROUNDS

prints the moments before the first and after every round as one JSON list, in seconds.
"""

from __future__ import annotations

import json
import logging
import sys
import time

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from benchmarks.round_app import app, serve
from benchmarks.round_work import RoundWork


def main() -> None:
    """Run the default work, one client at a time as the other ways do."""
    rounds, work = int(sys.argv[1]), RoundWork()
    moments: list[float] = []
    server = ServerApp()

    @server.main()
    def _serve(grid: Grid, context: Context) -> None:
        del context
        serve(grid, work, rounds, lambda: moments.append(time.perf_counter()))

    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_simulation(
        server,
        app,
        num_supernodes=work.clients,
        backend_config={
            "init_args": {"num_cpus": 1, "logging_level": "error", "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    sys.stdout.write(json.dumps(moments) + "\n")


if __name__ == "__main__":
    main()
