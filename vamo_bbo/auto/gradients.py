"""What ``method="auto"`` learns from gradients at x0: whether they are noisy, and in which units the variables are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.auto.units import agree, sizes_of

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["FirstGradients"]


class FirstGradients:
    """Gradients at x0, of which the method that follows is given the latest: it asks for it first.

    Parameters
    ----------
    call : Call
        The arguments.
    x0 : (d,) array
        The start within the bounds.
    """

    def __init__(self, call: Call, x0: Array) -> None:
        self.call, self.x0 = call, x0
        self.found: list[Array | None] = []
        """None for one that failed, about which the method will have its say."""
        self.handed = False
        self._raw: Any = None

    @property
    def spent(self) -> int:
        """Gradients that nobody else counts."""
        return len(self.found) - self.handed

    def differ(self) -> bool:
        """Return whether two of them do."""
        first, second = self._at_least(2)
        return first is not None and second is not None and not np.array_equal(first, second, equal_nan=True)

    def units(self, lower: Array | None, upper: Array | None) -> Array | None:
        """Return sizes of the variables (d,) if x0 suggests some that a gradient agrees with, else None."""
        sizes = sizes_of(self.x0, lower, upper)
        if sizes is None:
            return None
        gradient = self._at_least(1)[0]
        return sizes if gradient is not None and agree(sizes, gradient) else None

    def hand_over(self) -> None:
        """Make the objective answer the first question at x0 with what it has told, at no cost."""
        if not self.found or self.found[-1] is None:
            return
        self.handed = True
        if self.call.jac is True:
            self.call.fun = self._replayed(self.call.fun)
        else:
            self.call.jac = self._replayed(self.call.jac)

    def _replayed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        waiting = [self._raw]

        def replayed(x: Array, *args: Any) -> Any:
            return waiting.pop() if waiting and np.array_equal(x, self.x0) else function(x, *args)

        return replayed

    def _at_least(self, count: int) -> list[Array | None]:
        while len(self.found) < count:
            self.found.append(self._asked())
        return self.found

    def _asked(self) -> Array | None:
        call, x = self.call, self.x0.copy()  # the user's function may write to it
        try:
            self._raw = call.fun(x, *call.arguments) if call.jac is True else call.jac(x, *call.arguments)
            gradient = np.array(self._raw[1] if call.jac is True else self._raw, dtype=np.float64).reshape(-1)
        except Exception:
            return None
        return gradient if gradient.size == call.size else None
