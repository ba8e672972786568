"""Named parameters of mixed types, mapped to the unit box and back.

Solvers see a point of ``[0, 1]^d``; the objective receives a dict of the user's own names and types.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vamo_bbo._errors import OptionError, close_matches
from vamo_bbo._typing import FloatArray, IndexArray

__all__ = ["Choice", "Integer", "Parameter", "Real", "Space", "SpaceObjective"]

_MAX_LEVELS = 2**50
"""Most levels of an Integer: above, neighboring levels would share a float in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Real:
    """A real parameter between two finite bounds.

    Parameters
    ----------
    low, high : float
        Bounds, ``low < high``; both can be reached exactly.
    log : bool, default False
        Search the logarithm (``low > 0``): a learning rate, a regularization strength.

    Raises
    ------
    OptionError
        The bounds are not finite, not increasing, or not positive with ``log=True``.

    Examples
    --------
    >>> rate = Real(1e-4, 1.0, log=True)
    >>> round(rate.from_unit(0.5), 12)
    0.01
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        low, high = _number("Real", "low", self.low), _number("Real", "high", self.high)
        if not low < high or not math.isfinite(high - low):
            raise OptionError(f"Real: needs finite low < high, got low={self.low!r}, high={self.high!r}.")
        if self.log and not low > 0:
            raise OptionError(f"Real: log=True needs low > 0, got low={self.low!r}.")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def levels(self) -> int:
        """0: the parameter is continuous."""
        return 0

    def from_unit(self, u: float) -> float:
        """Return the value at ``u`` in [0, 1]; 0 and 1 give exactly ``low`` and ``high``.

        Values are rounded to about 14 digits, what the unit interval can resolve: a start of 0.01 stays 0.01.
        """
        low, high = self.low, self.high
        near, start, fraction = (low, True, u) if u <= 0.5 else (high, False, 1.0 - u)
        if fraction <= 0.0:
            return near
        if self.log:
            shift = fraction * math.log(high / low)
            value = float(f"{near * math.exp(shift if start else -shift):.14g}")
        else:
            size = max(abs(low), abs(high))
            value = round(near + (high - low) * (fraction if start else -fraction), 14 - math.ceil(math.log10(size)))
        return min(max(value, low), high)

    def to_unit(self, value: Any) -> float:
        """Return the ``u`` in [0, 1] whose value is nearest; exact for what ``from_unit`` gives."""
        number = _number("Real", "value", value)
        if not self.low <= number <= self.high:
            raise OptionError(f"value {value!r} is outside [{self.low!r}, {self.high!r}].")
        if self.log:
            width = math.log(self.high / self.low)
            up, down = math.log(number / self.low), math.log(self.high / number)
        else:
            width = self.high - self.low
            up, down = number - self.low, self.high - number
        guess = up / width if up <= down else 1.0 - down / width
        return _refine(self.from_unit, min(max(guess, 0.0), 1.0), number)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number between two bounds, both included.

    Parameters
    ----------
    low, high : int
        Bounds, ``low < high``.
    log : bool, default False
        Search the logarithm (``low > 0``): a number of trees, of samples, the width of a layer.
    step : int > 0, default 1
        Distance of neighbors, of which ``high - low`` is a multiple; not with ``log``.

    Raises
    ------
    OptionError
        The bounds are not whole numbers, not increasing, more than 2**50 levels apart, or not positive with
        ``log=True``; ``step`` does not divide their difference.

    Examples
    --------
    >>> layers = Integer(1, 4)
    >>> [layers.from_unit(u) for u in (0.0, 0.3, 1.0)]
    [1, 2, 4]
    >>> trees = Integer(1, 1000, log=True)
    >>> [trees.from_unit(u) for u in (0.0, 0.5, 1.0)]
    [1, 22, 1000]
    >>> Integer(32, 128, step=32).from_unit(0.3)
    64
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            object.__setattr__(self, name, _whole("Integer", name, getattr(self, name)))
        if not self.low < self.high:
            raise OptionError(f"Integer: needs low < high, got low={self.low}, high={self.high}.")
        if self.step < 1 or (self.high - self.low) % self.step:
            got = f"low={self.low}, high={self.high}, step={self.step}"
            raise OptionError(f"Integer: step must be positive and divide high - low, got {got}.")
        if self.log and (self.low < 1 or self.step > 1):
            raise OptionError(f"Integer: log=True needs low > 0 and no step, got low={self.low}, step={self.step}.")
        if self.levels > _MAX_LEVELS:
            raise OptionError(f"Integer: at most 2**50 levels, got low={self.low}, high={self.high}.")

    @property
    def levels(self) -> int:
        """Number of cells of the unit interval: one for each value, with ``log`` at least one."""
        if self.log:
            return math.ceil(self._length * (self.high + 0.5))
        return (self.high - self.low) // self.step + 1

    @property
    def _length(self) -> float:
        """Length of the logarithmic axis, on which a value v reaches from v - 1/2 to v + 1/2."""
        return math.log((self.high + 0.5) / (self.low - 0.5))

    def from_unit(self, u: float) -> int:
        """Return the value whose cell holds ``u``."""
        cell = _cell(u, self.levels)
        if not self.log:
            return self.low + self.step * cell
        value = math.floor((self.low - 0.5) * math.exp(self._length * (cell + 0.5) / self.levels) + 0.5)
        return min(max(value, self.low), self.high)

    def to_unit(self, value: Any) -> float:
        """Return the center of the value's cell."""
        number = _whole("Integer", "value", value)
        if not self.low <= number <= self.high:
            raise OptionError(f"value {value!r} is outside [{self.low}, {self.high}].")
        if (number - self.low) % self.step:
            raise OptionError(f"value {value!r} is not {self.low} plus a multiple of {self.step}.")
        if not self.log:
            return ((number - self.low) // self.step + 0.5) / self.levels
        ends = (math.log((number + side) / (self.low - 0.5)) for side in (-0.5, 0.5))
        return (_cell(0.5 * sum(ends) / self._length, self.levels) + 0.5) / self.levels


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several unordered options of any type.

    Parameters
    ----------
    options : sequence
        At least two different options; ``1``, ``1.0`` and ``True`` are different.

    Raises
    ------
    OptionError
        Fewer than two options, or one that is repeated.

    Examples
    --------
    >>> Choice(["relu", "tanh", None]).from_unit(0.9) is None
    True
    """

    options: Sequence[Any]

    def __post_init__(self) -> None:
        if isinstance(self.options, str | set | frozenset) or len(options := tuple(self.options)) < 2:
            raise OptionError(f"Choice: needs a list of at least two options, got {self.options!r}.")
        object.__setattr__(self, "options", options)
        for k, option in enumerate(options):
            if self._index(option) != k:
                raise OptionError(f"Choice: option {option!r} is repeated.")

    @property
    def levels(self) -> int:
        """Minus the number of options: negative says that they have no order."""
        return -len(self.options)

    def from_unit(self, u: float) -> Any:
        """Return the option whose cell holds ``u``."""
        return self.options[_cell(u, len(self.options))]

    def to_unit(self, value: Any) -> float:
        """Return the center of the option's cell."""
        index = self._index(value)
        if index is None:
            raise OptionError(f"value {value!r} is not one of {list(self.options)!r}.")
        return (index + 0.5) / len(self.options)

    def _index(self, value: Any) -> int | None:
        for k, option in enumerate(self.options):
            if option is value or (type(option) is type(value) and _same(option, value)):
                return k
        return None


Parameter: TypeAlias = Real | Integer | Choice


class Space:
    """A search space of named parameters and fixed values.

    Parameters
    ----------
    parameters : mapping of str, optional
        Names that are no Python identifiers can be given as one mapping.
    **named : Real, Integer, Choice, or any other value
        The parameters; anything that is none of the three is a fixed value, passed to the objective as it is.

    Raises
    ------
    OptionError
        No free parameter, a name given twice, or a value that the space does not have.

    Examples
    --------
    >>> space = Space(rate=Real(1e-4, 1, log=True), layers=Integer(1, 3), kind=Choice(["relu", "tanh"]), c=7)
    >>> space.size, space.names
    (3, ('rate', 'layers', 'kind'))
    >>> u = space.to_unit({"rate": 0.01, "layers": 3, "kind": "tanh"})
    >>> space.from_unit(u)
    {'rate': 0.01, 'layers': 3, 'kind': 'tanh', 'c': 7}
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        try:
            items = dict(parameters or {})
        except (TypeError, ValueError):
            raise OptionError(f"Space: takes names, as in Space(a=Real(0, 1)), got {parameters!r}.") from None
        if twice := sorted(items.keys() & named.keys()):
            raise OptionError(f"Space: {twice[0]!r} is given twice.")
        items.update(named)
        for name, value in items.items():
            if not isinstance(name, str):
                raise OptionError(f"Space: names must be strings, got {name!r}.")
            if value in ((Real, Integer, Choice) if isinstance(value, type) else ()):
                raise OptionError(f"Space: {name!r} needs bounds, as in {value.__name__}(...).")
        self._items = items
        self._free = {k: v for k, v in items.items() if isinstance(v, Real | Integer | Choice)}
        if not self._free:
            got = f"; {next(iter(items))!r} is {next(iter(items.values()))!r}" if items else ""
            raise OptionError(f"Space: needs at least one Real, Integer or Choice, as in a=Real(0, 1){got}.")
        self._start: FloatArray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters, in the order of the coordinates."""
        return tuple(self._free)

    @property
    def size(self) -> int:
        """Number of free parameters d."""
        return len(self._free)

    @property
    def levels(self) -> IndexArray:
        """Per coordinate: 0 for Real, n for an Integer of n cells, -n for a Choice of n; shape (d,)."""
        return np.array([p.levels for p in self._free.values()], dtype=np.int64)

    @property
    def x0(self) -> FloatArray:
        """The start in the unit box, shape (d,): the center, or what :meth:`starting_at` was given."""
        if self._start is not None:
            return self._start.copy()
        return np.array([p.to_unit(p.from_unit(0.5)) for p in self._free.values()], dtype=np.float64)

    def starting_at(self, params: Mapping[str, Any]) -> Space:
        """Return the same space with another start; parameters that are left out start at their center.

        Examples
        --------
        >>> Space(a=Real(0, 4), b=Integer(0, 9)).starting_at({"a": 1.0}).x0.tolist()
        [0.25, 0.55]
        """
        center = {name: p.from_unit(0.5) for name, p in self._free.items()}
        copy = Space(self._items)
        copy._start = self.to_unit({**center, **params})
        return copy

    def parameter(self, name: str) -> Real | Integer | Choice | None:
        """Return the free parameter of that name, or None."""
        return self._free.get(name)

    def from_unit(self, u: Any) -> dict[str, Any]:
        """Return the dict of all parameters at ``u``, shape (d,), each element in [0, 1] (clipped)."""
        point = np.asarray(u, dtype=np.float64)
        if point.shape != (self.size,) or np.isnan(point).any():
            raise OptionError(f"Space: needs {self.size} numbers in [0, 1], got {u!r}.")
        values = dict(zip(self._free, point.tolist(), strict=True))
        return {
            name: self._free[name].from_unit(values[name]) if name in values else fixed
            for name, fixed in self._items.items()
        }

    def to_unit(self, params: Mapping[str, Any]) -> FloatArray:
        """Return the point of ``params``, shape (d,); fixed values may be left out or repeated unchanged.

        ``from_unit(to_unit(params))`` is ``params``, exactly, for every dict that ``from_unit`` gives; other
        real values go to the nearest one that the unit interval can hold.
        """
        for name, value in params.items():
            if name not in self._items:
                raise OptionError(f"Space: no parameter {name!r}{close_matches(name, self._items)}.")
            if name not in self._free and value is not self._items[name] and value != self._items[name]:
                raise OptionError(f"Space: {name!r} is fixed to {self._items[name]!r}, got {value!r}.")
        u = np.empty(self.size)
        for k, (name, parameter) in enumerate(self._free.items()):
            if name not in params:
                raise OptionError(f"Space: parameter {name!r} is missing.")
            try:
                u[k] = parameter.to_unit(params[name])
            except OptionError as error:
                raise OptionError(f"Space: {name}: {error}") from None
        return u

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self._items == other._items and np.array_equal(self.x0, other.x0)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self._items.items())
        return f"Space({inner})"


class SpaceObjective:
    """The user's function of named parameters as a function of a point of the unit box; picklable when ``fun`` is.

    Parameters
    ----------
    fun : callable
        ``fun(params, *args)`` gets a dict. A function whose first parameter has the name of a parameter of the
        space, or that takes nothing but keywords, is called ``fun(**params)``.
    space : Space
        The space.

    Raises
    ------
    OptionError
        ``fun`` takes keywords, but not those of the space.

    Examples
    --------
    >>> space = Space(a=Real(0, 2), b=5)
    >>> SpaceObjective(lambda p: p["a"] + p["b"], space)(np.array([0.25]))
    5.5
    >>> def add(a, b):
    ...     return a + b
    >>> SpaceObjective(add, space)(np.array([0.25]))
    5.5
    """

    def __init__(self, fun: Callable[..., Any], space: Space) -> None:
        self.fun, self.space = fun, space
        self.by_name = _takes_names(fun, space)

    def __call__(self, u: Any, *args: Any, **keywords: Any) -> Any:
        """Return the value at ``u``; ``keywords`` are the common random numbers of ``noisy="seed"`` or "rng"."""
        if self.by_name:
            return self.fun(*args, **self.params(u), **keywords)
        return self.fun(self.params(u), *args, **keywords)

    def params(self, u: Any) -> dict[str, Any]:
        """Return the parameters at ``u``, for the records of a run."""
        return self.space.from_unit(u)


def _takes_names(fun: Callable[..., Any], space: Space) -> bool:
    """Return whether ``fun`` is called with the parameters as keywords."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # a builtin
        return False
    if not parameters:
        return False
    kinds = inspect.Parameter
    first, names = parameters[0], set(space._items)
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
    by_position = any(
        p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL) for p in parameters
    )
    if by_position and (first.kind is not kinds.POSITIONAL_OR_KEYWORD or first.name not in names):
        return False
    unknown = sorted(names - {p.name for p in parameters})
    if unknown and not takes_any:
        has = ", ".join(p.name for p in parameters)
        raise OptionError(f"Space: fun takes parameters by name, but not {unknown[0]!r}; it has {has}.")
    return True


def _same(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except (TypeError, ValueError):  # arrays
        return False


def _number(kind: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, str | bytes):
        raise OptionError(f"{kind}: {name} must be a finite number, got {value!r}.")
    return number


def _whole(kind: str, name: str, value: Any) -> int:
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or isinstance(value, bool | str | bytes) or whole != value:
        raise OptionError(f"{kind}: {name} must be a whole number, got {value!r}.")
    return whole


def _cell(u: float, count: int) -> int:
    """Return which of ``count`` equal cells of [0, 1] holds ``u``."""
    return min(max(int(u * count), 0), count - 1)


def _refine(from_unit: Callable[[float], float], u: float, value: float) -> float:
    """Return the float near ``u`` whose value is ``value``, or the nearest found."""
    best, error = u, abs(from_unit(u) - value)
    for direction in (0.0, 1.0):
        v = u
        for _ in range(32):
            if error == 0.0:
                return best
            v = math.nextafter(v, direction)
            miss = abs(from_unit(v) - value)
            if miss < error:
                best, error = v, miss
    return best
