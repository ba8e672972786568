"""What leaves a method of scipy early, and the user's function as workers get it."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.run.stop import Code

__all__ = ["Guarded", "Mapper", "StopRun"]

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""A map-like callable ``mapper(function, iterable)``, as scipy's ``workers``."""


class StopRun(BaseException):
    """Ends a method of scipy from inside the objective; no ``Exception``, so that nothing on the way catches it."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True, slots=True)
class Guarded:
    """``fun(x, *args)`` that returns its exception instead of raising it: what is sent to workers.

    ``vectorized`` functions take the points as rows; one point is a batch of one row.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...] = ()
    vectorized: bool = False

    def __call__(self, x: Array) -> tuple[Any, Exception | None, str | None]:
        """Return (value, None, None), or (NaN, exception, traceback)."""
        try:
            if self.vectorized:
                return np.asarray(self.fun(x[None, :], *self.args)).reshape(-1)[0], None, None
            return self.fun(x, *self.args), None, None
        except StopIteration:
            raise
        except Exception as exception:
            return math.nan, exception, traceback.format_exc()

    def rows(self, points: Sequence[Array]) -> list[tuple[Any, Exception | None, str | None]]:
        """Evaluate all points by one vectorized call; an exception fails all of them."""
        try:
            values = np.asarray(self.fun(np.stack(points), *self.args)).reshape(len(points))
            return [(value, None, None) for value in values]
        except StopIteration:
            raise
        except Exception as exception:
            return [(math.nan, exception, traceback.format_exc())] * len(points)
