"""From the arguments of a call to an objective and a start in the solver's coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array
from vamo_bbo.backends import namespace
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.objective import LARGE, Objective
from vamo_bbo.run.scaling import Scaling

__all__ = ["Setup", "check_fun", "parse_bounds", "parse_x0", "scale_of", "seed_of", "setup"]


@dataclass(slots=True)
class Setup:
    """An objective and where it starts.

    Attributes
    ----------
    objective : Objective
        What is minimized.
    z0 : (d,) array
        Start in the solver's coordinates: free variables only, divided by ``x_scale``.
    x0 : (D,) array
        Start in the user's coordinates, clipped to the bounds. From d = 1e6 on this and z0 may be the caller's own
        array, read-only, which nothing reads after the start of the run.
    lower, upper : (D,) arrays or None
        Bounds in the user's coordinates.
    """

    objective: Objective
    z0: Array
    x0: Array
    lower: Array | None
    upper: Array | None

    def declare_known(self, points: Array, values: Array) -> None:
        """Tell the objective's solver about points (k, D) whose values (k,) were known before the run."""
        scaling = self.objective.scaling
        z = points if scaling.free is None else points[:, scaling.free]
        z = (z if scaling.scale is None else z / scaling.scale).astype(self.objective.dtype)
        info = self.objective.info
        if info.lower is not None and info.upper is not None:
            z = z.clip(info.lower, info.upper)  # a quotient may round to just outside
        self.objective.declare(known_points=z, known_values=values)


def check_fun(fun: Any) -> None:
    """Raise :class:`OptionError` unless ``fun`` is something to minimize."""
    if not callable(fun) and not isinstance(fun, FiniteSum):
        raise OptionError(f"fun must be a callable or a FiniteSum, got {fun!r}.")


def parse_x0(x0: Any) -> Array:
    """Return ``x0`` as a new one-dimensional float array; float32 stays float32, as in scipy.

    Raises
    ------
    OptionError
        It is not one-dimensional, is empty, not real, or not finite.

    Examples
    --------
    >>> parse_x0(3)
    array([3.])
    """
    xp = namespace(x0)
    x: Array = xp.atleast_1d(xp.asarray(x0))
    if x.ndim != 1:
        raise OptionError(f"'x0' must only have one dimension. It has shape {x.shape}.")
    if x.size == 0:
        raise OptionError("x0 must have at least one element, got an empty array.")
    if x.dtype.kind not in "biuf":
        got = f"{_in_one_line(x0)} of type {type(x0).__name__}" if x.dtype == object else f"dtype {x.dtype}"
        raise OptionError(f"x0 must be an array of real numbers, or a Space of named parameters; got {got}.")
    dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.float64
    if x.size < LARGE:
        x = xp.array(x, dtype=dtype)
    elif xp is not np:
        x = x.astype(dtype, copy=False)
    else:  # a copy would be one vector more for the whole run; nothing reads this one after the run has begun
        x = np.asarray(x, dtype=dtype).view()
        x.flags.writeable = False
    if not xp.isfinite(x).all():
        bad = int(xp.isfinite(x).argmin())
        raise OptionError(f"x0 must be finite, got {x[bad]} at position {bad}.")
    return x


def _in_one_line(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) < 100 else f"{text[:97]}..."


def parse_bounds(bounds: Any, size: int) -> tuple[Array, Array] | None:
    """Return (lower, upper) of ``size`` elements, with inf where there is no bound, or None.

    Parameters
    ----------
    bounds : None, sequence of (min, max) pairs, or Bounds
        None within a pair is no bound. A single pair, and scalars in ``Bounds``, hold for all variables.

    Raises
    ------
    OptionError
        A wrong length, NaN, or an upper bound below its lower bound.

    Examples
    --------
    >>> [b.tolist() for b in parse_bounds([(0, None)], 2)]
    [[0.0, 0.0], [inf, inf]]
    """
    if bounds is None:
        return None
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        lower, upper = np.asarray(bounds.lb, dtype=float), np.asarray(bounds.ub, dtype=float)
    else:
        try:
            pairs = [tuple(pair) for pair in bounds]
            lower = np.array([-np.inf if a is None else a for a, _ in pairs], dtype=float)
            upper = np.array([np.inf if b is None else b for _, b in pairs], dtype=float)
        except (TypeError, ValueError):
            pairs = []
        if len(pairs) not in (1, size):
            raise OptionError(
                f"bounds must be {size} (min, max) pairs, a list of one pair for all, or scipy.optimize.Bounds; "
                f"got {_in_one_line(bounds)}."
            )
    try:
        lower, upper = (np.array(np.broadcast_to(b, (size,))) for b in (lower, upper))
    except ValueError:
        raise OptionError(f"bounds must broadcast to the {size} variables of x0, got {bounds!r}.") from None
    if np.isnan(lower).any() or np.isnan(upper).any():
        raise OptionError("bounds must not be NaN; use None or inf for no bound.")
    if (upper < lower).any():
        raise OptionError("An upper bound is less than the corresponding lower bound.")
    if np.isinf(lower).all() and np.isinf(upper).all():
        return None
    return lower, upper


def scale_of(x_scale: Any, size: int, bounds: tuple[Array, Array] | None) -> Array | None:
    """Return the scale of every variable, or None for 1: the width of the bounds where both are finite."""
    if x_scale is None:
        if bounds is None:
            return None
        width = bounds[1] - bounds[0]
        scale = np.where(np.isfinite(width) & (width > 0), width, 1.0)
    else:
        scale = np.asarray(x_scale, dtype=float)
        if scale.shape not in ((), (1,), (size,)) or not np.isfinite(scale).all() or not (scale > 0).all():
            raise OptionError(f"x_scale must be positive numbers, one or {size} of them, got {x_scale!r}.")
        scale = np.array(np.broadcast_to(scale, (size,)))
    return None if (scale == 1).all() else scale


def setup(
    fun: Callable[..., Any] | FiniteSum,
    x0: Any,
    *,
    args: tuple[Any, ...] = (),
    jac: Callable[..., Any] | bool | None = None,
    bounds: Any = None,
    x_scale: Any = None,
    vectorized: bool = False,
    noisy: bool | str = False,
    remove_fixed: bool = True,
) -> Setup:
    """Return the objective of a call to ``minimize``, and its start.

    Variables whose bounds are equal are removed (``remove_fixed``); x0 is clipped to the bounds.

    Raises
    ------
    OptionError
        An argument has a value that is not allowed.
    """
    check_fun(fun)
    if isinstance(noisy, str) and noisy not in ("seed", "rng"):
        raise OptionError(
            "noisy must be None, True, False, or, for functions that take common random numbers, 'seed' or 'rng'; "
            f"got {noisy!r}."
        )
    if isinstance(fun, FiniteSum) and vectorized:
        raise OptionError("vectorized=True is for a plain callable; a FiniteSum gets many samples in a call already.")
    x = parse_x0(x0)
    xp = namespace(x)
    limits = parse_bounds(bounds, x.size)
    scale = scale_of(x_scale, x.size, limits)
    template = free = None
    z0, lower, upper = x, None, None
    if limits is not None:
        lower, upper = (xp.asarray(b.astype(x.dtype)) for b in limits)
        z0 = x = x.clip(lower, upper)
        fixed = limits[0] == limits[1]
        if remove_fixed and fixed.any():
            template, free = x, xp.asarray(np.flatnonzero(~fixed))
    full_lower, full_upper = lower, upper
    if free is not None:
        z0, scale = z0[free], None if scale is None else scale[~fixed]
        assert lower is not None
        assert upper is not None
        lower, upper = lower[free], upper[free]
    if scale is not None:
        scale = xp.asarray(scale.astype(x.dtype))
    scaling = Scaling(scale, lower, upper, template, free)
    if scale is not None:
        z0 = z0 / scale
        lower, upper = (None if b is None else b / scale for b in (lower, upper))
    objective = Objective(
        fun,
        size=z0.size,
        args=args,
        jac=jac,
        dtype=x.dtype,
        scaling=scaling,
        lower=lower,
        upper=upper,
        vectorized=vectorized,
        noisy=bool(noisy),
        noise=noisy if isinstance(noisy, str) else None,
        device=xp is not np,
    )
    return Setup(objective, z0, x, full_lower, full_upper)


def seed_of(rng: Any) -> int:
    """Return the 64-bit key of a run from what ``numpy.random.default_rng`` accepts; a Generator is advanced.

    Examples
    --------
    >>> seed_of(1) == seed_of(1)
    True
    """
    try:
        generator = np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise OptionError(f"rng must be what numpy.random.default_rng accepts, such as a seed, got {rng!r}.") from None
    return int(generator.integers(0, 2**64, dtype=np.uint64))
