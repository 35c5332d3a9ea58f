"""Time one DP-SGD step: `python benchmarks/step.py [--json]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from fnl.bench.step import measure_step


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="40-128-128-10", help="inputs-hidden-…-classes")
    parser.add_argument("--steps", type=int, default=50, help="time steps of a clip")
    parser.add_argument("--batch", type=int, default=32, help="clips of a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    timings = measure_step(
        tuple(int(width) for width in options.widths.split("-")),
        steps=options.steps,
        batch=options.batch,
        threads=options.threads,
        repeats=options.repeats,
    )
    if options.json:
        print(json.dumps(asdict(timings)))
        return
    print(f"{options.widths}, T={options.steps}, B={options.batch}, {options.threads} thread(s)")
    for name, milliseconds in (
        ("snnTorch over time", timings.peer_ms),
        ("snnTorch by layer", timings.layerwise_ms),
        ("ours", timings.ours_ms),
        ("matrix products only", timings.floor_ms),
    ):
        ratio = milliseconds / timings.ours_ms
        print(f"{name:22s}{milliseconds:9.2f} ms{ratio:8.2f} x ours")


if __name__ == "__main__":
    main()
