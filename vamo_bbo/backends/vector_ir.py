"""Philox and Box-Muller as LLVM vector instructions, and the loops the CPU kernels are made of.

Written as vectors of 16 lanes because LLVM's vectorizer prefers half-width vectors on many AVX-512 machines and needs
run-time alias checks, which make an in-place call slow; a load-compute-store sequence of vectors needs neither.
Every machine gets the same bits: nothing here is contracted, reordered or approximated. LLVM splits the vectors to
what the machine has.

The arithmetic is that of :mod:`vamo_bbo.backends.philox`, operation for operation but for a power of two.
"""

# numba and llvmlite have no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils

from vamo_bbo.backends.philox import (
    COS_COEFFICIENTS,
    LOG_COEFFICIENTS,
    MULTIPLIERS,
    ROUNDS,
    SIN_COEFFICIENTS,
    TWO_PI_FRACTION,
    WEYL,
)

LANES = 16
I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()
SIGN, LOW = 0x80000000, 0xFFFFFFFF


class Vec:
    """A scalar or a vector of lanes with Python operators; a scalar meets a vector as that scalar in every lane."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    @property
    def element(self) -> Any:
        """The LLVM type of a lane."""
        return self.value.type.element if isinstance(self.value.type, ir.VectorType) else self.value.type

    @property
    def lanes(self) -> int:
        """Number of lanes, 0 for a scalar."""
        return int(self.value.type.count) if isinstance(self.value.type, ir.VectorType) else 0

    def spread(self, lanes: int) -> Vec:
        """Return this scalar in every lane of a vector."""
        if self.lanes or not lanes:
            return self
        vector = ir.VectorType(self.element, lanes)
        if isinstance(self.value, ir.Constant):
            return Vec(self.builder, ir.Constant(vector, [self.value.constant] * lanes))
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), self.value, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return Vec(self.builder, self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros))

    def _pair(self, other: Any) -> tuple[Vec, Vec]:
        if not isinstance(other, Vec):
            other = Vec(self.builder, ir.Constant(self.element, other))
        lanes = max(self.lanes, other.lanes)
        return self.spread(lanes), other.spread(lanes)

    def _op(self, name: str, other: Any) -> Vec:
        a, b = self._pair(other)
        return Vec(self.builder, getattr(self.builder, name)(a.value, b.value))

    def _either(self, integer: str, floating: str, other: Any) -> Vec:
        return self._op(floating if self.element in (F32, F64) else integer, other)

    def __add__(self, other: Any) -> Vec:
        return self._either("add", "fadd", other)

    def __sub__(self, other: Any) -> Vec:
        return self._either("sub", "fsub", other)

    def __mul__(self, other: Any) -> Vec:
        return self._either("mul", "fmul", other)

    def __xor__(self, other: Any) -> Vec:
        return self._op("xor", other)

    def __and__(self, other: Any) -> Vec:
        return self._op("and_", other)

    def __lshift__(self, other: Any) -> Vec:
        return self._op("shl", other)

    def __rshift__(self, other: Any) -> Vec:
        return self._op("lshr", other)

    def arithmetic_shift(self, other: int) -> Vec:
        """Shift right, keeping the sign."""
        return self._op("ashr", other)

    def to(self, kind: str, element: Any) -> Vec:
        """Convert every lane with the LLVM instruction ``kind``."""
        target = ir.VectorType(element, self.lanes) if self.lanes else element
        return Vec(self.builder, getattr(self.builder, kind)(self.value, target))

    def call(self, name: str, *others: Any) -> Vec:
        """Call a correctly rounded elementwise LLVM intrinsic."""
        arguments = [self.value, *(self._pair(o)[1].value for o in others)]
        kind = self.value.type
        function = self.builder.module.globals.get(f"{name}.v{self.lanes}f32") or ir.Function(
            self.builder.module, ir.FunctionType(kind, [kind] * len(arguments)), f"{name}.v{self.lanes}f32"
        )
        return Vec(self.builder, self.builder.call(function, arguments))


def philox(counter: Sequence[Vec], key: Sequence[Vec]) -> list[Vec]:
    """Philox on 64-bit lanes of which the low halves count: products need no masking and no shuffles."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = (c0 & LOW) * MULTIPLIERS[0], (c2 & LOW) * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) ^ (c1 ^ k0), p1, (p0 >> 32) ^ (c3 ^ k1), p0
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return [low_halves(c.spread(LANES)) for c in (c0, c1, c2, c3)]


def low_halves(words: Vec) -> Vec:
    """Return the low 32 bits of 64-bit lanes, in the order of their counters: even ones first, then odd ones."""
    builder, half = words.builder, LANES // 2
    parts = []
    for first in (0, half):
        lanes = ir.Constant(ir.VectorType(I32, half), list(range(first, first + half)))
        undefined = ir.Constant(words.value.type, ir.Undefined)
        parts.append(Vec(builder, builder.shuffle_vector(words.value, undefined, lanes)))
    even, odd = parts
    both = (even & LOW) ^ (odd << 32)
    return Vec(builder, builder.bitcast(both.value, ir.VectorType(I32, LANES)))


def _horner(coefficients: Sequence[float], t: Vec) -> Vec:
    value = t * single(coefficients[-1]) + single(coefficients[-2])
    for c in coefficients[-3::-1]:
        value = value * t + single(c)
    return value


def single(value: float) -> float:
    """Round to float32."""
    return float(np.float32(value))


def normal_pair(radius: Vec, angle: Vec) -> tuple[Vec, Vec]:
    """Box-Muller as in :func:`vamo_bbo.backends.philox.normal_pair`."""
    v = radius.to("uitofp", F32) + 0.5  # without its factor 2**-32, which is exact: it is in the exponent below
    bits = v.to("bitcast", I32) - (0x3F3504F3 + (32 << 23))
    exponent = bits.arithmetic_shift(23).to("sitofp", F32)
    t = ((bits & 0x007FFFFF) + 0x3F3504F3).to("bitcast", F32) - 1.0
    square = t * t
    tail = t * square * _horner(LOG_COEFFICIENTS, t) + square
    minus_two_log = exponent * single(-1.3862943611198906) + (tail - (t + t))
    r = minus_two_log.call("llvm.sqrt")
    a = (angle << 2).to("sitofp", F32) * single(TWO_PI_FRACTION)
    square = a * a
    sine = a * square * _horner(SIN_COEFFICIENTS, square) + a
    half = square * 0.5
    one = Vec(a.builder, ir.Constant(F32, 1.0)).spread(LANES)
    cosine = square * square * _horner(COS_COEFFICIENTS, square) + (one - half)
    r = (r.to("bitcast", I32) ^ (angle & SIGN)).to("bitcast", F32)
    swap = r.builder.icmp_unsigned("!=", (angle & 0x40000000).value, ir.Constant(angle.value.type, [0] * LANES))
    first = Vec(r.builder, r.builder.select(swap, sine.value, cosine.value))
    second = Vec(r.builder, r.builder.select(swap, cosine.value, sine.value))
    return r * first, r * second


def _counters(builder: Any, base: Any) -> Vec:
    """Return 16 counters from ``base``, even ones first: two halves of words then make one vector without a shuffle."""
    steps = ir.Constant(ir.VectorType(I64, LANES), [*range(0, LANES, 2), *range(1, LANES, 2)])
    return Vec(builder, base) + Vec(builder, steps)


def _normal_rows(builder: Any, base: Any, rest: Sequence[Any]) -> list[tuple[int, Vec]]:
    """Return (first element, 16 elements) eight times: the 128 elements of the group of 32 counters from ``base``."""
    c1, c2, c3, k0, k1 = (Vec(builder, v) for v in rest)
    rows: list[tuple[int, Vec]] = []
    for half in range(2):
        counters = _counters(builder, builder.add(base, ir.Constant(I64, half * LANES)))
        w = philox((counters, c1, c2, c3), (k0, k1))
        for pair in range(2):
            first, second = normal_pair(w[2 * pair], w[2 * pair + 1])
            rows += [(64 * pair + LANES * half, first), (64 * pair + 32 + LANES * half, second)]
    return rows


def bytes_of(element: Any) -> int:
    """Return the size of an LLVM type."""
    return {I8: 1, I32: 4, F32: 4, I64: 8, F64: 8}[element]


def constant(value: int) -> Any:
    """Return an int64."""
    return ir.Constant(I64, value)


def load(builder: Any, base: Any, index: Any, element: Any, lanes: int = LANES) -> Vec:
    """Load values ``index``, index + 1, ... of the array at address ``base``, aligned to one value."""
    size = bytes_of(element)
    place = builder.add(base, builder.mul(index, constant(size)))
    kind = ir.VectorType(element, lanes) if lanes else element
    value = builder.load(builder.inttoptr(place, kind.as_pointer()))
    value.align = size
    return Vec(builder, value)


def store(vector: Vec, base: Any, index: Any) -> None:
    """Store to values ``index``, index + 1, ... of the array at address ``base``."""
    builder, size = vector.builder, bytes_of(vector.element)
    place = builder.add(base, builder.mul(index, constant(size)))
    stored = builder.store(vector.value, builder.inttoptr(place, vector.value.type.as_pointer()))
    stored.align = size


def cast(vector: Vec, element: Any) -> Vec:
    """Convert between float types, or from uint8."""
    if vector.element == element:
        return vector
    if vector.element == I8:
        return vector.to("uitofp", element)
    return vector.to("fpext" if element == F64 else "fptrunc", element)


def loop(builder: Any, start: Any, stop: Any, step: int, body: Callable[[Any], None]) -> None:
    """Call ``body(i)`` for i = start, start + step, ... below stop."""
    with cgutils.for_range_slice(builder, start, stop, constant(step), I64) as (i, _):
        body(i)


def each(builder: Any, n: Any, body: Callable[[Any, int], None]) -> None:
    """Call ``body(first, lanes)`` for all of n values: 16 at a time, then one at a time (lanes = 0)."""
    whole = builder.and_(n, constant(-LANES))
    loop(builder, constant(0), whole, LANES, lambda i: body(i, LANES))
    loop(builder, whole, n, 1, lambda i: body(i, 0))


def normal_loop(builder: Any, g0: Any, g1: Any, rest: Sequence[Any], use: Callable[[Any, Vec], None]) -> None:
    """For groups g0..g1 of a NORMAL direction, call ``use(first coordinate, 16 elements)`` eight times."""

    def group(g: Any) -> None:
        base, start = builder.mul(g, constant(2 * LANES)), builder.mul(g, constant(8 * LANES))
        for first, u in _normal_rows(builder, base, rest):
            use(builder.add(start, constant(first)), u)

    loop(builder, g0, g1, 1, group)


def sign_loop(builder: Any, g0: Any, g1: Any, use: Callable[[Any, Any, int], None]) -> None:
    """For groups g0..g1 of a tile, call ``use(first element, first word, chunk)`` for eight chunks of 16."""

    def group(g: Any) -> None:
        start, word = builder.mul(g, constant(8 * LANES)), builder.mul(g, constant(4))
        for chunk in range(8):
            use(builder.add(start, constant(LANES * chunk)), builder.add(word, constant(chunk // 2)), chunk % 2)

    loop(builder, g0, g1, 1, group)


def signed(step: Vec, words: Any, word: Any, half: int) -> Vec:
    """Return ``step`` times the 16 signs in a half of the word with index ``word`` at address ``words``."""
    element, bits = (I64, 64) if step.element == F64 else (I32, 32)
    value = load(step.builder, words, word, I32, 0)
    value = value.to("zext", I64) if bits == 64 else value
    shifts = [bits - 1 - (LANES * half + lane) for lane in range(LANES)]
    sign = (value << Vec(step.builder, ir.Constant(ir.VectorType(element, LANES), shifts))) & (1 << (bits - 1))
    return (step.to("bitcast", element) ^ sign).to("bitcast", step.element)


def stream_words(builder: Any, base: Any, rest: Sequence[Any]) -> Any:
    """Return the 64 words of 16 counters in stream order."""
    c1, c2, c3, k0, k1 = (Vec(builder, v) for v in rest)
    w = [v.value for v in philox((_counters(builder, base), c1, c2, c3), (k0, k1))]
    return _interleave(builder, _interleave(builder, w[0], w[2]), _interleave(builder, w[1], w[3]))


def _interleave(builder: Any, first: Any, second: Any) -> Any:
    lanes = first.type.count
    order = [lane + lanes * which for lane in range(lanes) for which in range(2)]
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, 2 * lanes), order))
