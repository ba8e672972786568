"""The inner loops of the CPU kernels as LLVM vector instructions, offered to numba as functions on addresses.

Written as vectors of 16 lanes because LLVM's vectorizer prefers half-width vectors on many AVX-512 machines and needs
run-time alias checks, which make an in-place call slow; a load-compute-store sequence of vectors needs neither.
Every machine gets the same bits: nothing here is contracted, reordered or approximated. LLVM splits the vectors to
what the machine has.

The arithmetic is that of :mod:`vamo_bbo.backends.philox`, operation for operation.
"""

# numba and llvmlite have no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types

from vamo_bbo.backends.philox import (
    COS_COEFFICIENTS,
    LOG_COEFFICIENTS,
    MULTIPLIERS,
    ROUNDS,
    SIN_COEFFICIENTS,
    TWO_PI_FRACTION,
    WEYL,
)

intrinsic: Any = extending.intrinsic

LANES = 16
I32, I64 = ir.IntType(32), ir.IntType(64)
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
    return [c.spread(LANES).to("trunc", I32) for c in (c0, c1, c2, c3)]


def _horner(coefficients: Sequence[float], t: Vec) -> Vec:
    value = t * single(coefficients[-1]) + single(coefficients[-2])
    for c in coefficients[-3::-1]:
        value = value * t + single(c)
    return value


def single(value: float) -> float:
    """Round to float32."""
    return float(types.float32.cast_python_value(value))


def normal_pair(radius: Vec, angle: Vec) -> tuple[Vec, Vec]:
    """Box-Muller as in :func:`vamo_bbo.backends.philox.normal_pair`."""
    v = radius.to("uitofp", F32) * 2.0**-32 + 2.0**-33
    bits = v.to("bitcast", I32) - 0x3F3504F3
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
    steps = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    return Vec(builder, base) + Vec(builder, steps)


def _address(builder: Any, base: Any, offset: int, kind: Any) -> Any:
    moved = builder.add(base, ir.Constant(I64, offset)) if offset else base
    return builder.inttoptr(moved, kind.as_pointer())


def _load(builder: Any, base: Any, offset: int, element: Any, align: int) -> Vec:
    pointer = _address(builder, base, offset, ir.VectorType(element, LANES))
    value = builder.load(pointer)
    value.align = align
    return Vec(builder, value)


def _store(builder: Any, vector: Vec, base: Any, offset: int, align: int) -> None:
    stored = builder.store(vector.value, _address(builder, base, offset, vector.value.type))
    stored.align = align


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


# Arguments of the functions below: addresses are int64; ``base`` is the first counter of the group; ``c1``, ``c2``,
# ``c3`` are the other counter words (index, step low, tag and step high) and ``k0``, ``k1`` the key, each an int64 in
# 0 .. 2**32 - 1. Steps and coefficients are float32 or float64, which is the type of the arrays.


def _element(kind: Any) -> tuple[Any, int]:
    """Return the LLVM type and the size in bytes of a numba type."""
    return {types.float32: (F32, 4), types.float64: (F64, 8), types.uint8: (ir.IntType(8), 1)}[kind]


@intrinsic
def normal_fill(typingctx, out, base, c1, c2, c3, k0, k1):
    """Write the 128 float32 elements of a NORMAL group to ``out``."""

    def codegen(context, builder, signature, args):
        for first, u in _normal_rows(builder, args[1], args[2:]):
            _store(builder, u, args[0], 4 * first, 4)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 7), codegen


@intrinsic
def normal_madd(typingctx, out, x, h, base, c1, c2, c3, k0, k1):
    """Write ``x + h * u`` to ``out`` for the 128 elements of a NORMAL group."""

    def codegen(context, builder, signature, args):
        element, size = _element(signature.args[2])
        step = Vec(builder, args[2])
        for first, u in _normal_rows(builder, args[3], args[4:]):
            cast = u if element == F32 else u.to("fpext", F64)
            moved = _load(builder, args[1], size * first, element, size) + step * cast
            _store(builder, moved, args[0], size * first, size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, h, *(types.int64,) * 6), codegen


@intrinsic
def normal_pair_madd(typingctx, plus, minus, x, h, base, c1, c2, c3, k0, k1):
    """Write ``x + h * u`` to ``plus`` and ``x - h * u`` to ``minus`` for the 128 elements of a NORMAL group."""

    def codegen(context, builder, signature, args):
        element, size = _element(signature.args[3])
        step = Vec(builder, args[3])
        for first, u in _normal_rows(builder, args[4], args[5:]):
            shift = step * (u if element == F32 else u.to("fpext", F64))
            x = _load(builder, args[2], size * first, element, size)
            _store(builder, x + shift, args[0], size * first, size)
            _store(builder, x - shift, args[1], size * first, size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, h, *(types.int64,) * 6), codegen


@intrinsic
def sign_words(typingctx, out, base, c1, c2, c3, k0, k1):
    """Write the 64 words of 16 counters of a sign stream to ``out``, in the order of the stream."""

    def codegen(context, builder, signature, args):
        c1, c2, c3, k0, k1 = (Vec(builder, v) for v in args[2:])
        w = philox((_counters(builder, args[1]), c1, c2, c3), (k0, k1))
        order = [lane + LANES * which for lane in range(LANES) for which in range(2)]
        mask = ir.Constant(ir.VectorType(I32, 2 * LANES), order)
        even = builder.shuffle_vector(w[0].value, w[2].value, mask)  # words 0, 2, 0, 2, ...
        odd = builder.shuffle_vector(w[1].value, w[3].value, mask)
        order = [lane + 2 * LANES * which for lane in range(2 * LANES) for which in range(2)]
        mask = ir.Constant(ir.VectorType(I32, 4 * LANES), order)
        words = builder.shuffle_vector(even, odd, mask)
        stored = builder.store(words, builder.inttoptr(args[0], words.type.as_pointer()))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 7), codegen


def _signed(step: Vec, words: Any, chunk: int) -> Vec:
    """Return ``step`` times the 16 signs of half-word ``chunk`` of the words at an address."""
    builder = step.builder
    wide = step.element == F64
    element, bits = (I64, 64) if wide else (I32, 32)
    loaded = builder.load(_address(builder, words, 4 * (chunk // 2), I32))
    loaded.align = 4
    word = Vec(builder, loaded)
    word = word.to("zext", I64) if wide else word
    shifts = [bits - 1 - (LANES * (chunk % 2) + lane) for lane in range(LANES)]
    sign = (word << Vec(builder, ir.Constant(ir.VectorType(element, LANES), shifts))) & (1 << (bits - 1))
    return (step.to("bitcast", element) ^ sign).to("bitcast", step.element)


@intrinsic
def sign_madd(typingctx, out, x, h, words):
    """Write ``x + h * u`` to ``out`` for 128 elements whose signs are the four words at ``words``."""

    def codegen(context, builder, signature, args):
        element, size = _element(signature.args[2])
        for chunk in range(8):
            offset = size * LANES * chunk
            x = _load(builder, args[1], offset, element, size)
            _store(builder, x + _signed(Vec(builder, args[2]), args[3], chunk), args[0], offset, size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, h, types.int64), codegen


@intrinsic
def sign_pair_madd(typingctx, plus, minus, x, h, words):
    """Write ``x + h * u`` and ``x - h * u`` for 128 elements whose signs are the four words at ``words``."""

    def codegen(context, builder, signature, args):
        element, size = _element(signature.args[3])
        for chunk in range(8):
            offset = size * LANES * chunk
            x = _load(builder, args[2], offset, element, size)
            shift = _signed(Vec(builder, args[3]), args[4], chunk)
            _store(builder, x + shift, args[0], offset, size)
            _store(builder, x - shift, args[1], offset, size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, h, types.int64), codegen


@intrinsic
def sign_madd4(typingctx, out, h0, h1, h2, h3, words):
    """Add ``h0 * u0`` to ``h3 * u3``, in this order, to 128 elements; words of a direction are 256 bytes apart."""

    def codegen(context, builder, signature, args):
        element, size = _element(signature.args[1])
        for chunk in range(8):
            offset = size * LANES * chunk
            total = _load(builder, args[0], offset, element, size)
            for j in range(4):
                words = builder.add(args[5], ir.Constant(I64, 256 * j))
                total = total + _signed(Vec(builder, args[1 + j]), words, chunk)
            _store(builder, total, args[0], offset, size)
        return context.get_dummy_value()

    return types.void(types.int64, h0, h0, h0, h0, types.int64), codegen


@intrinsic(prefer_literal=True)
def stack_bytes(typingctx, n):
    """Return the address of ``n`` (a literal) bytes on the stack of the calling function, aligned to 64."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    count = n.literal_value

    def codegen(context, builder, signature, args):
        with builder.goto_entry_block():
            slot = builder.alloca(ir.ArrayType(ir.IntType(8), count))
            slot.align = 64
        return builder.ptrtoint(slot, I64)

    return types.int64(n), codegen


@intrinsic
def pointer(typingctx, address, like):
    """Return ``address`` as a pointer to values of the type of ``like``."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), codegen


@intrinsic
def size_of(typingctx, like):
    """Return the size in bytes of the type of ``like``."""

    def codegen(context, builder, signature, args):
        return ir.Constant(I64, _element(like)[1])

    return types.int64(like), codegen
