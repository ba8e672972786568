"""What a kernel can do with directions, as numba functions on addresses with LLVM code behind them.

Conventions as in :mod:`.array_ops`. Ranges ``g0, g1`` count groups of 128 elements; ``c1, c2, c3`` are the counter
words besides the block (index, step low, tag and step high) and ``k0, k1`` the key, each in 0 .. 2**32 - 1.
"""

# numba and llvmlite have no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vamo_bbo.backends.array_ops import N, intrinsic, out_of_line
from vamo_bbo.backends.vector_ir import (
    Vec,
    cast,
    constant,
    load,
    normal_loop,
    sign_loop,
    signed,
    store,
    stream_words,
)


def _normal_madd(builder: Any, args: Sequence[Any]) -> None:
    out, x, h, g0, g1, *rest = args
    step = Vec(builder, h)

    def use(first: Any, u: Vec) -> None:
        store(load(builder, x, first, step.element) + step * cast(u, step.element), out, first)

    normal_loop(builder, g0, g1, rest, use)


@intrinsic
def normal_madd(typingctx, out, x, h, g0, g1, c1, c2, c3, k0, k1):
    """Write ``x + h * u`` to ``out`` for groups of a NORMAL direction; addresses are those of coordinate 0."""
    return out_of_line(f"normal_madd_{h}", _normal_madd, N, N, h, *(N,) * 7)


def _normal_close(builder: Any, args: Sequence[Any]) -> None:
    out, sums, c, g0, g1, *rest = args
    scale = Vec(builder, c)

    def use(first: Any, u: Vec) -> None:
        total = load(builder, sums, first, scale.element) + scale * cast(u, scale.element)
        store(load(builder, out, first, scale.element) + total, out, first)

    normal_loop(builder, g0, g1, rest, use)


@intrinsic
def normal_close(typingctx, out, sums, c, g0, g1, c1, c2, c3, k0, k1):
    """Add ``sums + c * u`` to ``out`` for groups of a NORMAL direction: the last term of a sum and its end."""
    return out_of_line(f"normal_close_{c}", _normal_close, N, N, c, *(N,) * 7)


def _normal_whole(builder: Any, args: Sequence[Any]) -> None:
    out, dense, a, c, g0, g1, *rest = args
    weight, scale = Vec(builder, a), Vec(builder, c)

    def use(first: Any, u: Vec) -> None:
        start = weight * load(builder, dense, first, scale.element) + 0.0
        store(load(builder, out, first, scale.element) + (start + scale * cast(u, scale.element)), out, first)

    normal_loop(builder, g0, g1, rest, use)


@intrinsic
def normal_whole(typingctx, out, dense, a, c, g0, g1, c1, c2, c3, k0, k1):
    """Add ``a * dense + c * u`` to ``out`` for groups of a NORMAL direction: a sum of one term of each kind."""
    return out_of_line(f"normal_whole_{c}", _normal_whole, N, N, a, c, *(N,) * 7)


def _normal_pair(builder: Any, args: Sequence[Any]) -> None:
    plus, minus, x, h, g0, g1, *rest = args
    step = Vec(builder, h)

    def use(first: Any, u: Vec) -> None:
        center, shift = load(builder, x, first, step.element), step * cast(u, step.element)
        store(center + shift, plus, first)
        store(center - shift, minus, first)

    normal_loop(builder, g0, g1, rest, use)


@intrinsic
def normal_pair(typingctx, plus, minus, x, h, g0, g1, c1, c2, c3, k0, k1):
    """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``, otherwise as :func:`normal_madd`."""
    return out_of_line(f"normal_pair_{h}", _normal_pair, N, N, N, h, *(N,) * 7)


def _sign_words(builder: Any, args: Sequence[Any]) -> None:
    out, base, *rest = args
    store(Vec(builder, stream_words(builder, base, rest)), out, constant(0))


@intrinsic
def sign_words(typingctx, out, base, c1, c2, c3, k0, k1):
    """Write the 64 words of the 16 counters from ``base`` of a sign stream to ``out``, in stream order."""
    return out_of_line("sign_words", _sign_words, *(N,) * 7)


def _sign_madd(builder: Any, args: Sequence[Any]) -> None:
    out, x, h, words, g0, g1 = args
    step = Vec(builder, h)

    def use(first: Any, word: Any, half: int) -> None:
        store(load(builder, x, first, step.element) + signed(step, words, word, half), out, first)

    sign_loop(builder, g0, g1, use)


@intrinsic
def sign_madd(typingctx, out, x, h, words, g0, g1):
    """Write ``x + h * u`` to ``out`` for groups of the tile whose words and first elements are given."""
    return out_of_line(f"sign_madd_{h}", _sign_madd, N, N, h, N, N, N)


def _sign_pair(builder: Any, args: Sequence[Any]) -> None:
    plus, minus, x, h, words, g0, g1 = args
    step = Vec(builder, h)

    def use(first: Any, word: Any, half: int) -> None:
        center, shift = load(builder, x, first, step.element), signed(step, words, word, half)
        store(center + shift, plus, first)
        store(center - shift, minus, first)

    sign_loop(builder, g0, g1, use)


@intrinsic
def sign_pair(typingctx, plus, minus, x, h, words, g0, g1):
    """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus``, otherwise as :func:`sign_madd`."""
    return out_of_line(f"sign_pair_{h}", _sign_pair, N, N, N, h, N, N, N)


def _sign_madd4(builder: Any, args: Sequence[Any]) -> None:
    out, *steps, words, g0, g1 = args
    vectors = [Vec(builder, h) for h in steps]

    def use(first: Any, word: Any, half: int) -> None:
        total = load(builder, out, first, vectors[0].element)
        for j, step in enumerate(vectors):
            total = total + signed(step, words, builder.add(word, constant(64 * j)), half)
        store(total, out, first)

    sign_loop(builder, g0, g1, use)


@intrinsic
def sign_madd4(typingctx, out, h0, h1, h2, h3, words, g0, g1):
    """Add ``h0 u0`` to ``h3 u3``, in order, to groups of a tile; words of directions are 64 words apart."""
    return out_of_line(f"sign_madd4_{h0}", _sign_madd4, N, h0, h0, h0, h0, N, N, N)
