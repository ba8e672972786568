"""scipy's result with a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scipy.optimize import OptimizeResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Result"]


class Result(OptimizeResult):
    """What :func:`vamo_bbo.minimize` returns: scipy's ``OptimizeResult``, and :meth:`plot`."""

    def plot(self, axes: Any = None) -> Figure:
        """Draw convergence, step size and failures; see :func:`vamo_bbo.plot.plot`."""
        from vamo_bbo.plot import plot

        return plot(self, axes)
