"""How a step size or a smoothing changes over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Constant", "Cosine", "Linear", "Power", "Schedule"]


class Schedule(Protocol):
    """A factor that multiplies a base value."""

    def __call__(self, step: int, progress: float) -> float:
        """Return the factor at ``step`` when the share ``progress`` (0 to 1) of the budget is spent."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The factor 1.

    Examples
    --------
    >>> Constant()(10, 0.5)
    1.0
    """

    def __call__(self, step: int, progress: float) -> float:
        """Return the factor."""
        return 1.0


@dataclass(frozen=True, slots=True)
class Power:
    """The factor ``((1 + offset) / (step + 1 + offset)) ** decay``: 1 at step 0.

    Parameters
    ----------
    decay : float
        Exponent; Spall's gains use 0.602 for steps and 0.101 for perturbations (Spall, "Implementation of the
        simultaneous perturbation algorithm for stochastic optimization", IEEE Trans. AES 34(3), 1998).
    offset : float
        Stability constant A of the same paper.

    Examples
    --------
    >>> Power(0.5)(3, 0.0)
    0.5
    """

    decay: float
    offset: float = 0.0

    def __call__(self, step: int, progress: float) -> float:
        """Return the factor."""
        return float(((1.0 + self.offset) / (step + 1.0 + self.offset)) ** self.decay)


@dataclass(frozen=True, slots=True)
class Linear:
    """From 1 down to ``end`` over the budget.

    Examples
    --------
    >>> Linear()(0, 0.25)
    0.75
    """

    end: float = 0.0

    def __call__(self, step: int, progress: float) -> float:
        """Return the factor."""
        return 1.0 + (self.end - 1.0) * progress


@dataclass(frozen=True, slots=True)
class Cosine:
    """From 1 down to ``end`` over the budget along half a cosine.

    Examples
    --------
    >>> round(Cosine()(0, 0.5), 12)
    0.5
    """

    end: float = 0.0

    def __call__(self, step: int, progress: float) -> float:
        """Return the factor."""
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress))
