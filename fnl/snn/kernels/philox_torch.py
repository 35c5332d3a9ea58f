"""`philox_numba.uniform` in PyTorch: the same bits on any device, for many keys at once."""

from __future__ import annotations

import torch
from torch import Tensor

# unsigned words in int64: sums, products and shifts wrap alike, and shifts right are masked
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF
_ROUNDS = 10


def uniform(keys: Tensor, rows: Tensor, columns: Tensor, count: int) -> Tensor:
    """Return uniform numbers in [0, 1), float32 [B, `count`], as `philox_numba.uniform` does.

    Args:
        keys: of each row, int64 [B], the bits of an unsigned number.
        rows: likewise [B].
        columns: of each row, int64 [B], below 2^32.
        count: numbers a row.
    """
    blocks = torch.arange(-(-count // 4), device=rows.device)
    c0, c1 = blocks[None, :], columns[:, None]
    c2, c3 = (rows & _WORD)[:, None], _high(rows)[:, None]
    k0, k1 = (keys & _WORD)[:, None], _high(keys)[:, None]
    for _ in range(_ROUNDS):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1 = _high(product_1) ^ c1 ^ k0, product_1 & _WORD
        c2, c3 = _high(product_0) ^ c3 ^ k1, product_0 & _WORD
        k0, k1 = (k0 + _WEYL_0) & _WORD, (k1 + _WEYL_1) & _WORD
    words = torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), 2).flatten(1)
    return ((words[:, :count] >> 8).to(torch.float32)) * 2.0**-24


def _high(values: Tensor) -> Tensor:
    """Return the upper words of 64 bits."""
    return (values >> 32) & _WORD
