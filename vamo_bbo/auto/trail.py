"""What L-BFGS-B has seen under ``method="auto"``: whether gradients agree with values, and how to go on where not.

For two points of a smooth function the difference of the values is the mean of the two gradients times the step, up to
the third power of the step. So the points of a line search tell, at no cost, whether a gradient is that of the values,
best at the end, where steps are short. A gradient of another function (a cheaper model, a step behind) leads a line
search to a point where it finds nothing lower, and calls that the end; so do values with noise that has not been
declared. A coordinate that was forgotten is 0 at all points. One more value at the end, and two beside it, say what it
is. On noisy values L-BFGS-B goes on by gradients alone: its values are then sums of such products. A gradient that is
wrong is left out.

(docs/biased_gradients has the measurement.)
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.run.outputs import number
from vamo_bbo.run.setup import parse_x0
from vamo_bbo.scipy_layer.wrappers import limits, wants_result

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["Trail", "by_gradients"]

JUDGED = 6
"""Latest changes of the value that are judged."""
APART = 0.1
"""Relative difference from which on a change of the value is none of the gradients'."""
ROUNDING = 1e4 * float(np.finfo(np.float64).eps)
"""Changes of the value below this share of it are not judged."""
BESIDE = 1e-5
"""How far beside a point the slope is measured, relative to variables beyond 1: the third root of rounding, about."""
FTOL = 1e-14
"""Relative change of the work of the gradient at which it has all been done."""
REPEATS = 10
"""Values of a noisy objective that its mean at the end is made of."""


Point = tuple[Array, float, Array]
"""A point, its value and its gradient."""


class Trail:
    """How the values and gradients of a run have agreed. It keeps four vectors.

    It puts itself in the place of the objective and its gradient.

    Parameters
    ----------
    call : Call
        Its objective is plain and has a gradient.
    """

    def __init__(self, call: Call) -> None:
        self.fun, self.jac = call.fun, call.jac
        self.apart: deque[float] = deque(maxlen=JUDGED)
        self.latest: Point | None = None
        self.lowest: Point | None = None
        self.known = np.zeros(call.size, dtype=bool)
        """Coordinates that a gradient was not 0 in."""
        self._open: tuple[Array, float] | None = None
        if call.jac is True:
            call.fun = self._both
        else:
            call.fun, call.jac = self._value, self._gradient

    def _both(self, x: Array, *args: Any) -> Any:
        point = np.array(x)
        raw = self.fun(x, *args)
        self._open = (point, _number(raw[0]))
        self._take(point, raw[1])
        return raw

    def _value(self, x: Array, *args: Any) -> Any:
        point = np.array(x)
        raw = self.fun(x, *args)
        self._open = (point, _number(raw))
        return raw

    def _gradient(self, x: Array, *args: Any) -> Any:
        point = np.array(x)
        raw = self.jac(x, *args)
        self._take(point, raw)
        return raw

    def _take(self, x: Array, raw: Any) -> None:
        gradient = np.asarray(raw)
        if self._open is None or not np.array_equal(self._open[0], x) or gradient.dtype.kind not in "fiu":
            return
        g, h = np.array(gradient, dtype=np.float64).reshape(-1), self._open[1]
        if g.size != self.known.size or not np.isfinite(g).all() or not math.isfinite(h):
            return
        if self.latest is not None:
            y, f, before = self.latest
            change, told = h - f, float(0.5 * (before + g) @ (x - y))
            size = max(abs(change), abs(told))
            if size > ROUNDING * max(abs(f), abs(h)):
                self.apart.append(abs(change - told) / size)
        self.known |= g != 0.0
        self.latest = (x, h, g)
        if self.lowest is None or h <= self.lowest[1]:
            self.lowest = self.latest

    def disagrees(self) -> bool:
        """Return whether the latest changes of the value are not those that the gradients say, or one of these is 0."""
        apart = bool(self.apart) and float(np.median(self.apart)) > APART
        return self.latest is not None and (apart or not self.known.all())

    def verdict(self, call: Call) -> tuple[Literal["noisy", "wrong", ""], int]:
        """Return what is wrong at the lowest point, if anything is certain, and the values that it took to find out."""
        assert self.lowest is not None
        x, value, gradient = self.lowest
        again = _value(call, x)
        if again != value:
            return ("noisy" if math.isfinite(again) else ""), 1
        lower, upper = limits(call.bounds, call.x0)
        rng, sizes = np.random.default_rng(0), BESIDE * np.maximum(1.0, np.abs(x))
        if lower is not None and upper is not None:
            sizes[(x - sizes < lower) | (x + sizes > upper)] = 0.0
        for spent in (3, 5):
            step = sizes * rng.choice([-1.0, 1.0], x.size)
            ahead, behind = _value(call, x + step) - value, value - _value(call, x - step)
            slope, told = 0.5 * (ahead + behind), float(gradient @ step)
            smooth = abs(ahead - behind) <= APART * max(abs(ahead), abs(behind))  # no kink, and no minimum
            if smooth and abs(slope) > ROUNDING * abs(value) and abs(slope - told) > APART * max(abs(slope), abs(told)):
                return "wrong", spent
        return "", 5

    def go_on(self, call: Call, result: Any) -> Any:
        """Return the result of a run that has gone on, where the one that has ended was led by what is not so."""
        failed = "ABNORMAL" in str(result.message)
        if not (failed or (result.success and result.status == 0)) or not _fits(call, result, 5):
            return result
        if self.lowest is None or not (failed or self.disagrees()):
            return result
        call.fun, call.jac = self.fun, self.jac
        found, spent = self.verdict(call)
        if found and self.lowest[1] < result.fun:
            result.x, result.fun = self.lowest[0].copy(), self.lowest[1]
        result.nfev, result.nfev_samples = result.nfev + spent, result.nfev_samples + spent
        if call.jac is True:
            result.njev, result.njev_samples = result.njev + spent, result.njev_samples + spent
        if found == "noisy":
            rest = by_gradients(_rest(call, result))
            return _merged(result, rest, "the values are noisy: by gradients alone")
        text = "the gradient (jac) disagrees with differences of the values"
        if found == "wrong" and _fits(call, result, call.size + 2):
            warnings.warn(f"{text}; it is left out.", RuntimeWarning, stacklevel=6)
            return _merged(result, _by_values(_rest(call, result)), f"{text} and is left out")
        if found:
            result.success, result.message = False, f"{str(result.message).rstrip('. ')}; {text}."
        return result


def by_gradients(call: Call) -> Any:
    """Run L-BFGS-B on an exact gradient without its values, which are noisy.

    A value is that of the last iterate plus the mean of the two gradients times the step between: all that a line
    search asks. ``fun`` of the result is a mean of new values, with the standard error ``fun_std``.
    """
    from vamo_bbo.scipy_layer.call import run_scipy

    path, both = _Path(call), call.jac is True
    most = math.inf if call.limits.get("maxfev") is None else float(call.limits["maxfev"])
    count = int(min(REPEATS, most // 10 if both else most))
    followed = replace(call, fun=path.value, jac=path.gradient, callback=path.callback)
    own = [limit for limit in (call.limits.get("maxjev"), most - count if both else None) if limit is not None]
    followed.limits = {**call.limits, "maxfev": None, "f_target": None, "maxjev": min(own, default=None)}
    # The sums are exact, but begin at 0 and end where the values are largest: to many of their digits.
    tolerance = {"ftol": FTOL} if call.tol is None else {}
    result = run_scipy(followed, "L-BFGS-B", options={**tolerance, **call.options})
    result.nfev = result.nfev_samples = result.njev if both else 0
    values = np.array([_value(call, np.array(result.x)) for _ in range(count)])
    values = values[np.isfinite(values)]
    result.nfev, result.nfev_samples = result.nfev + count, result.nfev_samples + count
    if both:
        result.njev, result.njev_samples = result.njev + count, result.njev_samples + count
    result.fun_std = float(np.std(values, ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan
    result.fun = float(values.mean()) if values.size else math.nan
    return result


class _Path:
    """Values that are the work of the gradient along the way."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.base: Point | None = None
        self.latest: Point | None = None
        wanted = call.callback is not None and wants_result(call.callback)
        self.callback = self._named if wanted or call.callback is None else self._positional

    def _at(self, x: Array, args: tuple[Any, ...]) -> Point:
        if self.latest is None or not np.array_equal(self.latest[0], x):
            point = np.array(x)
            raw = self.call.fun(x, *args)[1] if self.call.jac is True else self.call.jac(x, *args)
            gradient = np.array(raw, dtype=np.float64).reshape(-1)
            if self.base is None:
                self.base = (point, 0.0, gradient)
            y, level, before = self.base
            self.latest = (point, level + float(0.5 * (before + gradient) @ (point - y)), gradient)
        return self.latest

    def value(self, x: Array, *args: Any) -> float:
        """Return the work since x0."""
        return self._at(x, args)[1]

    def gradient(self, x: Array, *args: Any) -> Array:
        """Return the gradient."""
        return self._at(x, args)[2].copy()

    def _moved(self, x: Array) -> None:
        if self.latest is not None and np.array_equal(self.latest[0], x):
            self.base = self.latest

    def _named(self, intermediate_result: Any) -> None:
        self._moved(intermediate_result.x)
        if self.call.callback is not None:
            self.call.callback(intermediate_result=intermediate_result)

    def _positional(self, x: Array) -> None:
        self._moved(x)
        assert self.call.callback is not None
        self.call.callback(x)


def _by_values(call: Call) -> Any:
    """Minimize without the gradient."""
    from vamo_bbo.auto.run import run_auto

    fun = call.fun
    values = (lambda x, *args: fun(x, *args)[0]) if call.jac is True else fun
    return run_auto(replace(call, fun=values, jac=None, options=_own(call)))


def _own(call: Call) -> dict[str, Any]:
    """Return the user's options, without those of L-BFGS-B."""
    return {name: call.options[name] for name in ("maxiter", "disp") if name in call.options}


def _fits(call: Call, result: Any, values: int) -> bool:
    """Return whether so many values are left of the budget."""
    limit = call.limits.get("maxfev")
    return limit is None or result.nfev + values <= limit


def _rest(call: Call, result: Any) -> Call:
    """Return the call that goes on from a result, with what is left of its budget."""
    left = dict(call.limits)
    for name, spent in (("maxfev", result.nfev), ("maxjev", result.njev)):
        if left.get(name) is not None:
            left[name] = max(0.0, left[name] - spent)
    return replace(call, x0=np.array(result.x, dtype=parse_x0(call.x0).dtype), limits=left)


def _merged(before: Any, result: Any, why: str) -> Any:
    """Return the second result with the counts of both."""
    for name in ("nfev", "njev", "nfev_samples", "njev_samples", "nit", "n_failed"):
        result[name] = result.get(name, 0) + before.get(name, 0)
    result.failures = [*before.failures, *result.failures]
    result.message = f"{str(before.message).rstrip('. ')}; {why}: {result.message}"
    return result


def _value(call: Call, x: Array) -> float:
    """Return a value at ``x``, NaN if it fails."""
    try:
        raw = call.fun(x.copy(), *call.arguments)
    except Exception:
        return math.nan
    return _number(raw[0] if call.jac is True else raw)


def _number(raw: Any) -> float:
    try:
        return number(raw)
    except (TypeError, ValueError):
        return math.nan
