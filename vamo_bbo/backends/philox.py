"""Philox4x32-10 and the Box-Muller transform in plain NumPy: the definition of every random number.

The generator is that of J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers:
as easy as 1, 2, 3", SC 2011, doi:10.1145/2063384.2063405, Section 3.3 (ten rounds, four 32-bit words).
The transform is that of G. E. P. Box and M. E. Muller, Ann. Math. Statist. 29 (1958) 610-611, evaluated with
polynomials in float32 so that every machine that rounds as IEEE 754 says gets the same bits: each product
and each sum is rounded on its own, and the only other operations are a conversion and a square root, both
correctly rounded.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ROUNDS", "counter_words", "normal_pair", "philox4x32", "stream_high"]

Words: TypeAlias = npt.NDArray[np.uint32]
Float32: TypeAlias = npt.NDArray[np.float32]

ROUNDS = 10
"""Rounds of the generator."""
FEW_WORDS = 32
"""Words up to which Python's own integers are faster than arrays."""
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
"""Philox multipliers (Salmon et al. 2011, Table 2)."""
WEYL = (0x9E3779B9, 0xBB67AE85)
"""Key increments: the golden ratio and sqrt(3) - 1 as 32-bit fractions."""

# -2 ln(1 + t) = -2 t + t^2 + t^3 P(t) for 1 + t in [sqrt(1/2), sqrt(2)], P of degree 8 with float32
# coefficients, lowest first: twice the negated logf coefficients of the Cephes library (S. L. Moshier,
# Methods and Programs for Mathematical Functions, 1989).
LOG_COEFFICIENTS = (
    -2 * 3.3333331174e-1,
    2 * 2.4999993993e-1,
    -2 * 2.0000714765e-1,
    2 * 1.6668057665e-1,
    -2 * 1.4249322787e-1,
    2 * 1.2420140846e-1,
    -2 * 1.1676998740e-1,
    2 * 1.1514610310e-1,
    -2 * 7.0376836292e-2,
)
SIN_COEFFICIENTS = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
"""sin(a) = a + a^3 P(a^2) on |a| <= pi/4 (Cephes sinf), lowest first."""
TWO_PI_FRACTION = float(np.float32(np.pi * 2.0**-33))
"""The angle of the unit of the low 30 bits of an angle word."""
COS_COEFFICIENTS = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)
"""cos(a) = 1 - a^2 / 2 + a^4 P(a^2) on |a| <= pi/4 (Cephes cosf), lowest first."""


def philox4x32(
    counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any], rounds: int = ROUNDS
) -> tuple[Words, Words, Words, Words]:
    """Return the four output words of Philox4x32 for every counter.

    Parameters
    ----------
    counter : tuple of four int or array of uint32
        Counter words; broadcast against each other.
    key : tuple of two int or array of uint32
        Key words, broadcast likewise.
    rounds : int, default 10
        Number of rounds.

    Examples
    --------
    >>> [f"{int(w):08x}" for w in philox4x32((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    words = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in counter))
    c0, c1, c2, c3 = words
    k0, k1 = (np.asarray(k, dtype=np.uint64) for k in key)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    w0, w1 = (np.uint64(w) for w in WEYL)
    for _ in range(rounds):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & low, (p0 >> shift) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + w0) & low, (k1 + w1) & low
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def _block(c0: int, c1: int, c2: int, c3: int, k0: int, k1: int) -> tuple[int, int, int, int]:
    """Return one block of :func:`philox4x32`, in Python's integers: for few words ten times as fast as arrays."""
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = k0 + WEYL[0] & 0xFFFFFFFF, k1 + WEYL[1] & 0xFFFFFFFF
    return c0, c1, c2, c3


def stream_high(step: int, tag: int) -> int:
    """Return counter word 3: the tag in the high byte, the high bits of the step below it."""
    return int(tag) << 24 | step >> 32


def counter_words(seed: int, tag: int, step: int, index: int, n: int) -> Words:
    """Return the first ``n`` words of a stream: blocks 0, 1, 2, ..., words 0..3 within each.

    Parameters
    ----------
    seed : int
        Key, 0 <= seed < 2**64; its low word is key word 0.
    tag : int
        Stream (:class:`vamo_bbo._typing.Tag`), 0 <= tag < 256.
    step, index : int
        Counter words: 0 <= step < 2**48, 0 <= index < 2**32.
    n : int
        Number of words, 0 <= n <= 2**34.

    Returns
    -------
    ndarray of uint32, shape (n,)

    Examples
    --------
    >>> from vamo_bbo._typing import Tag
    >>> counter_words(0, Tag.MAIN, 0, 0, 5).tolist()[:2] == [0x6627E8D5, 0xE169C58D]
    True
    """
    if n <= FEW_WORDS:
        few: list[int] = []
        for block in range(-(-n // 4)):
            few += _block(block, index, step & 0xFFFFFFFF, stream_high(step, tag), seed & 0xFFFFFFFF, seed >> 32)
        return np.array(few[:n], dtype=np.uint32)
    blocks = np.arange(-(-n // 4), dtype=np.uint64)
    counter = (blocks, index, step & 0xFFFFFFFF, stream_high(step, tag))
    return np.stack(philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)), axis=-1).reshape(-1)[:n]


def _horner(coefficients: tuple[float, ...], t: Float32) -> Float32:
    value = np.full_like(t, np.float32(coefficients[-1]))
    for c in coefficients[-2::-1]:
        value = value * t + np.float32(c)
    return value


def normal_pair(radius: Words, angle: Words) -> tuple[Float32, Float32]:
    """Return two independent standard normal numbers for every pair of words.

    With ``v = (radius + 1/2) / 2**32`` rounded to float32 and ``a`` in [-pi/4, pi/4] from the low 30 bits of
    ``angle``, the pair is ``r (cos a, sin a)``, ``r = sqrt(-2 ln v)``; bit 30 of ``angle`` swaps the two
    and bit 31 negates both. The largest magnitude is ``sqrt(66 ln 2) = 6.76``.

    Parameters
    ----------
    radius, angle : ndarray of uint32
        Words of the same shape.

    Returns
    -------
    tuple of two ndarray of float32
    """
    one = np.float32(1)
    v = radius.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    bits = v.view(np.uint32) - np.uint32(0x3F3504F3)  # sqrt(1/2): the mantissa is cut to [sqrt(1/2), sqrt(2))
    exponent = (bits.view(np.int32) >> 23).astype(np.float32)
    mantissa = ((bits & np.uint32(0x007FFFFF)) + np.uint32(0x3F3504F3)).view(np.float32)
    t = mantissa - one
    square = t * t
    tail = t * square * _horner(LOG_COEFFICIENTS, t) + square
    # -2 ln v = (-2 ln 2) e - 2 t + tail; the largest term last keeps the rounding error small.
    minus_two_log = exponent * np.float32(-1.3862943611198906) + (tail - (t + t))
    r = np.sqrt(minus_two_log)  # never negative: the words of every v were tried
    a = (angle << np.uint32(2)).view(np.int32).astype(np.float32) * np.float32(TWO_PI_FRACTION)
    square = a * a
    sine = a * square * _horner(SIN_COEFFICIENTS, square) + a
    cosine = square * square * _horner(COS_COEFFICIENTS, square) + (one - np.float32(0.5) * square)
    signed = (r.view(np.uint32) ^ (angle & np.uint32(0x80000000))).view(np.float32)
    swap = (angle & np.uint32(0x40000000)) != 0
    return signed * np.where(swap, sine, cosine), signed * np.where(swap, cosine, sine)
