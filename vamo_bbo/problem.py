"""Objectives that are more than a callable: finite sums of per-sample losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array

Losses: TypeAlias = Callable[..., Array | float]
Gradient: TypeAlias = Callable[..., Array]
ValueAndGradient: TypeAlias = Callable[..., tuple[Array | float, Array]]


@dataclass(frozen=True, slots=True)
class FiniteSum:
    r"""The objective :math:`f(x) = \frac1n \sum_{i=0}^{n-1} f_i(x)`, evaluated on any subset of its samples.

    Parameters
    ----------
    losses : callable ``losses(x, idx, *args) -> (len(idx),) array``
        Per-sample values :math:`f_i(x)` for the integer sample indices ``idx``. A callable that returns the batch
        mean (a float) is accepted too; the function-value table of VAMO is then kept per fixed batch.
    n_samples : int
        Number of terms n >= 1.
    grad : callable ``grad(x, idx, *args) -> (d,) array``, optional
        Mean gradient over ``idx``. Coordinates that are NaN at ``x0`` are declared unknown and measured by differences
        of the losses.
    value_and_grad : callable ``value_and_grad(x, idx, *args) -> (losses, grad)``, optional
        Both for the price of the gradient. With it, ``grad`` may be left out.
    grad_cost : float, default 3.0
        Price of a sample gradient in sample values. It steers choices and the cost axis of reports, never the clock.
    check_grad : bool, default True
        Compare ``grad`` with differences of ``losses`` at ``x0`` on a few directions; one warning if they disagree.
    chunk_size : int, default 65536
        Most samples in one call; full passes are cut into such ranges.

    Raises
    ------
    OptionError
        An argument has a value that is not allowed.

    Examples
    --------
    >>> import numpy as np
    >>> targets = np.array([1.0, 2.0, 6.0])
    >>> problem = FiniteSum(lambda x, idx: (x[0] - targets[idx]) ** 2, 3)
    >>> problem.losses(np.array([3.0]), np.array([0, 2]))
    array([4., 9.])
    """

    losses: Losses
    n_samples: int
    grad: Gradient | None = None
    value_and_grad: ValueAndGradient | None = None
    grad_cost: float = 3.0
    check_grad: bool = True
    chunk_size: int = 65536

    def __post_init__(self) -> None:
        for name in ("losses", "grad", "value_and_grad"):
            function = getattr(self, name)
            if not callable(function) and (function is not None or name == "losses"):
                raise OptionError(f"FiniteSum: {name} must be callable, got {function!r}.")
        if isinstance(self.n_samples, bool) or int(self.n_samples) != self.n_samples or self.n_samples < 1:
            raise OptionError(f"FiniteSum: n_samples must be a positive integer, got {self.n_samples!r}.")
        if not self.grad_cost > 0:
            raise OptionError(f"FiniteSum: grad_cost must be positive, got {self.grad_cost!r}.")
        if self.chunk_size < 1:
            raise OptionError(f"FiniteSum: chunk_size must be at least 1, got {self.chunk_size!r}.")

    @property
    def has_gradient(self) -> bool:
        """Whether the sum can give gradients."""
        return self.grad is not None or self.value_and_grad is not None
