"""What a device's privacy filter costs: σ of a planned run, over that of accountants of plans.

python -m benchmarks.filter_cost
"""

from __future__ import annotations

from fnl.privacy.filter import order_of
from fnl.privacy.ledger import calibrate

DELTA = 1e-5
EPSILONS = (1.0, 2.0, 4.0, 8.0)
PLANS = ((1.0, 10), (0.4, 30), (0.16, 247), (0.05, 400), (0.01, 3000))
"""(sampling rate, steps)."""


def main() -> None:
    """Print a row a budget and plan."""
    print("| ε | order | sampling rate | steps | σ | over RDP | over PRV |")
    print("|---|---|---|---|---|---|---|")
    for epsilon in EPSILONS:
        filtered = order_of(epsilon, DELTA)
        for rate, steps in PLANS:
            plan = {"epsilon": epsilon, "delta": DELTA, "sample_rate": rate, "steps": steps}
            sigma = calibrate(**plan, accountant=filtered)
            ratios = [sigma / calibrate(**plan, accountant=other) for other in ("rdp", "prv")]
            cells = f"{sigma:.3f} | {ratios[0]:.3f} | {ratios[1]:.3f}"
            print(f"| {epsilon:g} | {filtered.order:g} | {rate:g} | {steps} | {cells} |")


if __name__ == "__main__":
    main()
