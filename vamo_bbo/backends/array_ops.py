"""What a kernel can do with arrays, as numba functions on addresses with LLVM code behind them.

Kernels in :mod:`.kernels` are integer arithmetic around these and those of :mod:`.vector_ops`. Each is compiled once
per kernel, out of line: it is long, and a kernel reaches it from several places.

Arguments are int64 (addresses and counts) but for steps and coefficients, whose type, float32 or float64, is that of
the arrays. ``like`` is a value whose type says what an address points to.
"""

# numba and llvmlite have no types.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types

from vamo_bbo.backends.vector_ir import (
    F32,
    F64,
    I8,
    I64,
    LANES,
    Vec,
    cast,
    constant,
    each,
    load,
    loop,
    store,
)

intrinsic: Any = extending.intrinsic

N = types.int64
SUM_LANES = 64
_TYPES = {types.float32: F32, types.float64: F64, types.uint8: I8, types.int64: I64}


def out_of_line(name: str, body: Callable[[Any, Sequence[Any]], None], *kinds: Any) -> tuple[Any, Any]:
    """Return signature and code of a call of function ``name``, which ``body`` writes the first time."""

    def codegen(context, builder, signature, args):
        found = builder.module.globals.get(name)
        if found is None:
            kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
            found = ir.Function(builder.module, kind, name)
            found.linkage = "internal"
            found.attributes.add("noinline")
            inner = ir.IRBuilder(found.append_basic_block())
            body(inner, found.args)
            inner.ret_void()
        builder.call(found, args)
        return context.get_dummy_value()

    return types.void(*kinds), codegen


@intrinsic
def write_row(typingctx, out, x, h, row, n, like):
    """Write ``x + h * row`` to ``out``, n values, each rounded to the type of ``h``."""
    kind = _TYPES[like]

    def body(builder, args):
        out, x, h, row, n, _ = args
        step = Vec(builder, h)

        def some(first: Any, lanes: int) -> None:
            moved = cast(load(builder, row, first, kind, lanes), step.element)
            store(load(builder, x, first, step.element, lanes) + step * moved, out, first)

        each(builder, n, some)

    return out_of_line(f"write_row_{h}_{like}", body, N, N, h, N, N, like)


@intrinsic
def write_value(typingctx, out, value, n):
    """Write n times ``value`` to ``out``."""

    def body(builder, args):
        out, value, n = args
        each(builder, n, lambda first, lanes: store(Vec(builder, value).spread(lanes), out, first))

    return out_of_line(f"write_value_{value}", body, N, value, N)


@intrinsic
def write_cast(typingctx, out, row, n, to, like):
    """Convert n values of the type of ``like`` at ``row`` to the type of ``to`` at ``out``."""
    kind, target = _TYPES[like], _TYPES[to]

    def body(builder, args):
        out, row, n = args[:3]

        def some(first: Any, lanes: int) -> None:
            store(cast(load(builder, row, first, kind, lanes), target), out, first)

        each(builder, n, some)

    return out_of_line(f"write_cast_{to}_{like}", body, N, N, N, to, like)


@intrinsic
def multiply_mask(typingctx, u, mask, n):
    """Multiply n float32 values at ``u`` by the uint8 values at ``mask``."""

    def body(builder, args):
        u, mask, n = args

        def some(first: Any, lanes: int) -> None:
            factor = cast(load(builder, mask, first, I8, lanes), F32)
            store(load(builder, u, first, F32, lanes) * factor, u, first)

        each(builder, n, some)

    return out_of_line("multiply_mask", body, N, N, N)


@intrinsic
def add_values(typingctx, out, row, n, like):
    """Add n values at ``row`` to those at ``out``."""
    kind = _TYPES[like]

    def body(builder, args):
        out, row, n = args[:3]

        def some(first: Any, lanes: int) -> None:
            store(load(builder, out, first, kind, lanes) + load(builder, row, first, kind, lanes), out, first)

        each(builder, n, some)

    return out_of_line(f"add_values_{like}", body, N, N, N, like)


@intrinsic
def add_touched(typingctx, out, row, touched, n, like):
    """Add the values at ``row`` to those at ``out`` where the bytes at ``touched`` are not 0."""
    kind = _TYPES[like]

    def body(builder, args):
        out, row, touched, n = args[:4]

        def one(i: Any) -> None:
            old = load(builder, out, i, kind, 0)
            new = old + load(builder, row, i, kind, 0)
            flag = builder.icmp_unsigned("!=", load(builder, touched, i, I8, 0).value, ir.Constant(I8, 0))
            store(Vec(builder, builder.select(flag, new.value, old.value)), out, i)

        loop(builder, constant(0), n, 1, one)

    return out_of_line(f"add_touched_{like}", body, N, N, N, N, like)


@intrinsic
def add_products(typingctx, lanes, x, y, first, n, likex, likey):
    """Add n products in float64 to the 64 lanes at ``lanes``; product 0 belongs to lane ``first % 64``."""
    kinds = _TYPES[likex], _TYPES[likey]

    def body(builder, args):
        sums, x, y, first, n = args[:5]
        zero, last = constant(0), constant(SUM_LANES - 1)

        def product(i: Any, lanes: int) -> Vec:
            a, b = (load(builder, p, i, k, lanes) for p, k in zip((x, y), kinds, strict=True))
            return cast(a, F64) * cast(b, F64)

        def one(i: Any) -> None:
            lane = builder.and_(builder.add(first, i), last)
            store(load(builder, sums, lane, F64, 0) + product(i, 0), sums, lane)

        head = builder.and_(builder.sub(zero, first), last)
        head = builder.select(builder.icmp_signed("<", head, n), head, n)
        rest = builder.and_(builder.sub(n, head), constant(-SUM_LANES))
        whole = builder.add(head, rest)
        loop(builder, zero, head, 1, one)
        slots = [builder.alloca(ir.VectorType(F64, LANES)) for _ in range(SUM_LANES // LANES)]
        for k, slot in enumerate(slots):
            builder.store(load(builder, sums, constant(LANES * k), F64).value, slot)

        def row(i: Any) -> None:
            for k, slot in enumerate(slots):
                total = Vec(builder, builder.load(slot))
                builder.store((total + product(builder.add(i, constant(LANES * k)), LANES)).value, slot)

        loop(builder, head, whole, SUM_LANES, row)
        for k, slot in enumerate(slots):
            store(Vec(builder, builder.load(slot)), sums, constant(LANES * k))
        loop(builder, whole, n, 1, one)

    return out_of_line(f"add_products_{likex}_{likey}", body, N, N, N, N, N, likex, likey)


@intrinsic
def sum_lanes(typingctx, lanes):
    """Return the sum of the 64 float64 lanes at ``lanes``, by halves; the lanes are used up."""

    def codegen(context, builder, signature, args):
        total = load(builder, args[0], constant(0), F64, SUM_LANES)
        width = SUM_LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(total.value.type, ir.Undefined)
            halves = []
            for k in range(2):
                order = ir.Constant(ir.VectorType(ir.IntType(32), width), [k * width + i for i in range(width)])
                halves.append(Vec(builder, builder.shuffle_vector(total.value, undefined, order)))
            total = halves[0] + halves[1]
        return builder.extract_element(total.value, ir.Constant(ir.IntType(32), 0))

    return types.float64(N), codegen


@intrinsic(prefer_literal=True)
def stack_bytes(typingctx, n):
    """Return the address of ``n`` (a literal) bytes on the stack of the calling function, aligned to 64."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    count = n.literal_value

    def codegen(context, builder, signature, args):
        with builder.goto_entry_block():
            slot = builder.alloca(ir.ArrayType(I8, count))
            slot.align = 64
        return builder.ptrtoint(slot, I64)

    return N(n), codegen


@intrinsic
def value_at(typingctx, base, index, like):
    """Return value ``index`` of the array at an address."""

    def codegen(context, builder, signature, args):
        return load(builder, args[0], args[1], _TYPES[like], 0).value

    return like(N, N, like), codegen


@intrinsic
def put_value(typingctx, base, index, value):
    """Write value ``index`` of the array at an address."""

    def codegen(context, builder, signature, args):
        store(Vec(builder, args[2]), args[0], args[1])
        return context.get_dummy_value()

    return types.void(N, N, value), codegen


@intrinsic
def size_of(typingctx, like):
    """Return the size in bytes of the type of ``like``."""

    def codegen(context, builder, signature, args):
        return constant({F32: 4, F64: 8, I8: 1, I64: 8}[_TYPES[like]])

    return N(like), codegen


@intrinsic
def start_of(typingctx, array):
    """Return the address of the first element of an array."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(data, I64)

    return N(array), codegen
