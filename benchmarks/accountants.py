"""Accountants of privacy losses on the same work: ε, and milliseconds for it.

    python -m benchmarks.accountants [--repeats 3]

Ours (`fnl/privacy/prv.py`), Google's `dp-accounting` at two widths of its mesh, and Opacus' PRV
accountant. The first time everything is analysed, as in a search for noise; again, what can be kept
of a step is: the distribution on its mesh. Opacus keeps nothing. Every time is the least of the
repeats, in milliseconds of this process.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable

from dp_accounting.pld import privacy_loss_distribution as pld
from opacus.accountants import PRVAccountant

from fnl.privacy import ledger, prv
from fnl.privacy.ledger import calibrate

DELTA = 1e-3
WORK: dict[str, prv.History] = {
    "a round of the default run": ((1.1, 0.16, 13),),
    "all its rounds": ((1.1, 0.16, 234),),
    "the same, with releases": ((1.4, 0.16, 234), (5.0, 1.0, 18)),
    "three noises": ((1.2, 0.3, 60), (0.8, 0.1, 30), (9.0, 1.0, 20)),
    "full batches": ((3.0, 1.0, 10),),
    "many small batches": ((8.0, 0.01, 5000),),
    "little noise": ((0.5, 0.1, 60), (20.0, 1.0, 3)),
}
Kept = dict[tuple[float, float], pld.PrivacyLossDistribution]


def of_google(history: prv.History, width: float, kept: Kept) -> float:
    """Return ε by `dp-accounting`, an upper bound; steps that are in `kept` are not analysed."""
    total = pld.identity(value_discretization_interval=width)
    for sigma, rate, steps in history:
        if rate == 1:  # steps together are one Gaussian mechanism
            spread = sigma / math.sqrt(steps)
            loss = pld.from_gaussian_mechanism(spread, value_discretization_interval=width)
        else:
            if (sigma, rate) not in kept:
                kept[sigma, rate] = pld.from_gaussian_mechanism(
                    sigma, value_discretization_interval=width, sampling_prob=rate
                )
            loss = kept[sigma, rate].self_compose(steps)
        total = total.compose(loss)
    return float(total.get_epsilon_for_delta(DELTA))


def of_opacus(history: prv.History) -> float:
    """Return ε by Opacus: its estimate and its error."""
    accountant = PRVAccountant()
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=DELTA))


def anew(history: prv.History) -> float:
    """Return ε by our accountant, everything analysed."""
    prv._loss_of.cache_clear()
    prv._moments_of.cache_clear()
    return prv.prv_epsilon(history, DELTA)


def least(repeats: int, compute: Callable[[], float]) -> tuple[float, float]:
    """Return what `compute` returns, and the least milliseconds that it took."""
    value, times = 0.0, []
    for _ in range(repeats):
        started = time.perf_counter()
        value = compute()
        times.append(time.perf_counter() - started)
    return value, 1e3 * min(times)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(
        "| work | ours | ms | again | width 1e-4 | ms | again | width 5e-3 | ms | again |", end=""
    )
    print(" Opacus | ms |")
    print("|" + "---|" * 12)
    for name, history in WORK.items():
        epsilon, first = least(repeats, lambda history=history: anew(history))
        _, again = least(repeats, lambda history=history: prv.prv_epsilon(history, DELTA))
        cells = [f"{epsilon:.4f}", f"{first:.1f}", f"{again:.2f}"]
        for width in (1e-4, 5e-3):
            kept: Kept = {}
            epsilon, first = least(repeats, lambda h=history, width=width: of_google(h, width, {}))
            of_google(history, width, kept)
            _, again = least(
                repeats, lambda h=history, width=width, kept=kept: of_google(h, width, kept)
            )
            cells += [f"{epsilon:.4f}", f"{first:.0f}", f"{again:.0f}"]
        epsilon, first = least(1, lambda history=history: of_opacus(history))
        print(f"| {name} | {' | '.join(cells)} | {epsilon:.4f} | {first:.0f} |", flush=True)

    def noise() -> float:
        anew(WORK["full batches"])
        calibrate.cache_clear()
        ledger._epsilon.cache_clear()
        return calibrate(epsilon=8, delta=DELTA, sample_rate=0.16, steps=234, accountant="prv")

    sigma, first = least(repeats, noise)
    print(f"\nnoise for epsilon = 8 over 234 steps: {sigma:.4f} in {first:.0f} ms")


if __name__ == "__main__":
    main()
