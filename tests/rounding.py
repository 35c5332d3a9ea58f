"""How close two sums have to be that other machines add up in another order.

Matrix products and reductions add in an order that the library picks by processor and shape. So
our results have another library's bits only where every element is the same few operations in the
same order. Elsewhere a test says by how many units in the last place they may differ, and why; or
it makes the sums exact, so that no order can round.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_Numbers = Tensor | np.floating | NDArray[np.floating]

STEP = 2.0**-6
"""Numbers that are multiples of this, and below 2^8 in sums of their products, add up exactly."""


def assert_within_ulps(
    ours: _Numbers, theirs: _Numbers, ulps: float, of: _Numbers | None = None
) -> None:
    """Assert |ours − theirs| <= `ulps` units in the last place of `of`, element by element.

    Two orders of n additions differ by less than n units in the last place of the sum of the
    terms' magnitudes (Higham 2002, section 4.2), and by some √n where errors have either sign.

    Args:
        ours: of a floating dtype.
        theirs: of the same dtype and shape.
        ulps: how many units.
        of: what they are units of, as a sum of magnitudes; default: `theirs`.
    """
    a, b = _array(ours), _array(theirs)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    units = np.spacing(np.abs(b if of is None else _array(of).astype(b.dtype)))
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64)) / units
    assert bool((apart <= ulps).all()), f"{apart.max():.3g} units in the last place apart"


def _array(values: _Numbers) -> NDArray[np.floating]:
    return values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)


def on_grid(values: Tensor) -> Tensor:
    """Return the values rounded to multiples of `STEP`."""
    return (values / STEP).round() * STEP


def make_products_exact(network: nn.Module) -> None:
    """Round matrices and biases of a network to multiples of `STEP`.

    Their products with spikes, or with inputs `on_grid`, are then the same in any order of
    additions, and so are the spikes that depend on them.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 or name.endswith("bias"):
                parameter.copy_(on_grid(parameter))
