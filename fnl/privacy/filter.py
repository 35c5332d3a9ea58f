"""A privacy filter: a budget that holds though what is spent is chosen after seeing what came out.

An accountant that takes the best order of Rényi DP, or composes privacy losses, is right where all
noise and sampling rates are fixed beforehand. Over the runs of a device they are not: a server may
choose each run's after it has seen the results of the last, and so turn to noise that is bad where
the luck of the earlier noise makes it worse.

A Rényi filter allows just that (Feldman & Zrnic 2021, arXiv 2008.11193): fix an order α and a
budget B; as long as the divergences of order α of all that was ever done, each as it was chosen,
add up to at most B, all of it together has Rényi divergence B of order α. B is ε less what the
conversion to (ε, δ) takes at α. A ledger counted by `FixedOrder(α)` against ε at δ is that filter,
where it is asked before each round and what it refuses is not computed.

The theorem wants α fixed before anything is seen. `order_of` takes it from ε and δ alone, which
are the device's own: no server has a say, and it is the same whenever it is asked for.
"""

from __future__ import annotations

from fnl.privacy.ledger import RDP_ORDERS, FixedOrder, conversion


def order_of(epsilon: float, delta: float) -> FixedOrder:
    """Return the order at which a budget buys most of a Gaussian mechanism.

    At order α a Gaussian mechanism has divergence α/(2σ²), so σ is least where (ε − conversion)/α
    is largest. Mini-batches move the best order little: for ε of 1 to 8, sampling rates of 0.01 to
    1 and 10 to 3,000 steps, this one takes at most 3 % more noise than the best of all.
    """
    best = max(RDP_ORDERS, key=lambda order: (epsilon - conversion(order, delta)) / order)
    return FixedOrder(best)
