"""Philox4x32-10, the counter-based generator (Salmon et al. 2011, "Parallel random numbers").

A block of four 32-bit words is a pure function of a 64-bit key and a 128-bit counter, so any
number of a stream is computed by itself, on any machine and in any order.
"""

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel

# 32-bit words in 64-bit numbers throughout: products of two need 64 bits, and lanes stay of a size
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_WORD, _WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_LOST_BITS, _SPACING = np.uint64(8), np.float32(2.0**-24)
_ROUNDS = 10


@kernel
def uniform(key, rows, column, out):
    """Fill `out`, float32 [B, 4 n], with uniform numbers in [0, 1).

    Word w of block i of row b is `out[b, 4 i + w]`: its upper 24 bits times 2^-24, so every
    multiple of 2^-24 in [0, 1) is equally likely and exact. The counter of a block is, from the
    lowest word up, (i, `column`, `rows[b]` in two words). `key`, uint64; `rows`, uint64 [B];
    `column`, uint64 below 2^32.
    """
    for b in range(out.shape[0]):
        low, high = rows[b] & _WORD, rows[b] >> _WORD_BITS
        for i in range(out.shape[1] // 4):
            c0, c1, c2, c3 = np.uint64(i), column, low, high
            k0, k1 = key & _WORD, key >> _WORD_BITS
            for _ in range(_ROUNDS):
                product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
                c0 = (product_1 >> _WORD_BITS) ^ c1 ^ k0
                c1 = product_1 & _WORD
                c2 = (product_0 >> _WORD_BITS) ^ c3 ^ k1
                c3 = product_0 & _WORD
                k0, k1 = (k0 + _WEYL_0) & _WORD, (k1 + _WEYL_1) & _WORD
            out[b, 4 * i] = np.float32(np.int64(c0 >> _LOST_BITS)) * _SPACING
            out[b, 4 * i + 1] = np.float32(np.int64(c1 >> _LOST_BITS)) * _SPACING
            out[b, 4 * i + 2] = np.float32(np.int64(c2 >> _LOST_BITS)) * _SPACING
            out[b, 4 * i + 3] = np.float32(np.int64(c3 >> _LOST_BITS)) * _SPACING
