"""What a backend accepts: one clear error for everything else, the same on every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError, StateError
from vamo_bbo._typing import AnyDirection, Array, Direction, Law, StoredDirection

MAX_SIZE = 1 << 34
"""A stream of normal numbers has 2**32 counters of four."""

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # comparing with the types is slower by a factor of ten

CACHED_NORMS = 4096
"""Squared norms a bound backend remembers before it starts over."""


def check_bind(seed: int, size: int) -> None:
    """Check a key and a dimension."""
    if not 0 <= seed < 1 << 64:
        raise OptionError(f"seed={seed!r}: a key has 64 bits, 0 <= seed < 2**64")
    if not 1 <= size <= MAX_SIZE:
        raise OptionError(f"size={size!r}: a vector has 1 to 2**34 elements")


def check_direction(u: AnyDirection, size: int) -> None:
    """Check that the name of a direction is within the ranges of its fields."""
    if isinstance(u, StoredDirection):
        return
    if not isinstance(u, Direction):
        raise OptionError(f"direction {u!r}: expected a Direction or a StoredDirection, got {type(u).__name__}")
    if not (0 <= u.step < 1 << 48 and 0 <= u.index < 1 << 32 and 0 <= u.count < 1 << 32 and 0 <= u.tag < 256):
        raise OptionError(
            f"direction {u!r}: 0 <= step < 2**48, 0 <= index < 2**32, 0 <= count < 2**32 and 0 <= tag < 256"
        )
    if u.law == Law.BLOCK and not 1 <= u.count <= size:
        raise OptionError(f"direction {u!r}: BLOCK cuts {size} coordinates into 1 <= count <= {size} blocks")
    if u.law == Law.COORDINATE and u.count == 0 and u.index >= size:
        raise OptionError(f"direction {u!r}: coordinate {u.index} of a vector of {size}")
    if not 0 <= u.law < len(Law):
        raise OptionError(f"direction {u!r}: unknown law; known are {', '.join(law.name for law in Law)}")


def check_range(lo: int, hi: int, size: int) -> None:
    """Check a range of coordinates."""
    if not 0 <= lo <= hi <= size:
        raise OptionError(f"lo={lo}, hi={hi}: a tile lies in 0 <= lo <= hi <= {size}")


def check_array(name: str, a: Any, length: int) -> None:
    """Check that ``a`` is a contiguous float vector of the given length."""
    if not hasattr(a, "dtype"):
        raise OptionError(f"{name}: expected an array of float32 or float64, got {type(a).__name__}")
    if a.dtype not in _FLOATS:
        raise OptionError(f"{name} has dtype {a.dtype}; allowed are float32 and float64")
    if a.ndim != 1 or a.shape[0] != length:
        raise OptionError(f"{name} has shape {a.shape}; expected ({length},)")
    if not a.flags.c_contiguous:
        raise OptionError(f"{name} is not contiguous; pass numpy.ascontiguousarray({name})")


def check_vector(name: str, a: Any, size: int) -> None:
    """Check a full vector."""
    check_array(name, a, size)


def check_out(out: Any, lo: int, hi: int, size: int) -> None:
    """Check a tile that is written."""
    check_range(lo, hi, size)
    check_array("out", out, hi - lo)
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise OptionError("out is read-only; pass a writable array")


def address(a: Any) -> int:
    """Return where the elements of a NumPy or CuPy array start."""
    return int(a.ctypes.data) if isinstance(a, np.ndarray) else int(a.data.ptr)


def check_apart(a: Any, b: Any) -> None:
    """Check that two contiguous arrays share no memory."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        overlap = np.may_share_memory(a, b)  # exact for contiguous arrays, and quick
    else:
        overlap = address(a) < address(b) + b.nbytes and address(b) < address(a) + a.nbytes
    if overlap:
        raise OptionError(
            "two of the arrays overlap in memory; pass one array twice where that is allowed, or separate ones"
        )


def check_pair(x: Any, out: Any, lo: int, hi: int, size: int) -> None:
    """Check a tile that is read and one that is written: the same array, or no memory in common."""
    check_out(out, lo, hi, size)
    if out is x:
        return
    check_array("x", x, hi - lo)
    if x.dtype != out.dtype:
        raise OptionError(f"x has dtype {x.dtype} and out {out.dtype}; they must agree")
    if address(x) != address(out):
        check_apart(x, out)


def check_rows(x: Any, us: Sequence[AnyDirection], hs: Sequence[float], out: Any, size: int) -> None:
    """Check the arguments of ``perturb_rows``."""
    check_array("x", x, size)
    if len(us) != len(hs):
        raise OptionError(f"us has {len(us)} directions and hs {len(hs)} steps; they must agree")
    if getattr(out, "shape", None) != (len(us), size) or out.dtype != x.dtype or not out.flags.c_contiguous:
        raise OptionError(f"out must be a contiguous ({len(us)}, {size}) array of {x.dtype}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise OptionError("out is read-only; pass a writable array")
    check_apart(x, out)


def check_accumulate(dense: Sequence[tuple[float, Any]], lo: int, hi: int, out: Any, size: int) -> None:
    """Check the arguments of ``accumulate`` except its directions."""
    check_out(out, lo, hi, size)
    for k, (_, g) in enumerate(dense):
        check_array(f"dense[{k}]", g, size)
        if g.dtype != out.dtype:
            raise OptionError(f"dense[{k}] has dtype {g.dtype} and out {out.dtype}; they must agree")
        check_apart(g, out)


def stored_row(arrays: Mapping[str, Array], u: StoredDirection, size: int) -> Array:
    """Return the row a stored direction names."""
    array = arrays.get(u.array)
    if array is None:
        raise StateError(f"direction {u!r}: there is no state array {u.array!r}; known are {sorted(arrays)}")
    if array.ndim != 2 or array.shape[1] != size or not 0 <= u.row < array.shape[0]:
        raise StateError(f"direction {u!r}: row {u.row} of {u.array!r} of shape {array.shape}, d = {size}")
    row: Array = array[u.row]
    check_array(f"{u.array}[{u.row}]", row, size)
    return row


def mask_of(arrays: Mapping[str, Array], u: Direction, size: int) -> Array:
    """Return the mask a direction names."""
    mask = arrays.get(u.mask) if u.mask is not None else None
    if mask is None:
        raise StateError(f"direction {u!r}: there is no state array {u.mask!r}; known are {sorted(arrays)}")
    if mask.dtype != np.uint8 or mask.shape != (size,) or not mask.flags.c_contiguous:
        raise StateError(f"mask {u.mask!r} is {mask.dtype} of shape {mask.shape}; expected uint8 of ({size},)")
    return mask


def no_words(u: AnyDirection) -> OptionError:
    """Return the error for a direction that no random words stand behind."""
    return OptionError(f"direction {u!r} is not random: it has no words")
