"""Pictures of a run: convergence, step size, failures. matplotlib is imported at the first use (extra ``report``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(result: Any, axes: Any = None) -> Figure:
    """Draw the history of a result against its number of (sample) values.

    Parameters
    ----------
    result : OptimizeResult
        What :func:`vamo_bbo.minimize` returned.
    axes : sequence of matplotlib axes, optional
        Where to draw: the first takes the objective, the second the step size, the third the failures; as many as
        are given. By default a figure with those panels that have something to show.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or written.

    Raises
    ------
    OptionError
        The result has no history.
    CapabilityError
        matplotlib is not installed.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> figure = vb.minimize(lambda x: (x[0] - 1) ** 2, [0.0], method="spsa", rng=1, maxfev=60).plot()
    >>> figure.axes[0].get_ylabel()
    'objective'
    """
    records = list(result.get("history", ()))
    if not records:
        raise OptionError("plot: the result has no history.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CapabilityError("plot needs matplotlib: pip install 'vamo_bbo[report]'.") from error
    panels = [_objective]
    if any(math.isfinite(r.step_size) for r in records):
        panels.append(_step_size)
    if result.get("n_failed", 0):
        panels.append(_failures)
    if axes is None:
        figure = Figure(figsize=(6.4, 1.2 + 2.2 * len(panels)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    else:
        axes = np.atleast_1d(axes)
        panels = [_objective, _step_size, _failures][: len(axes)]
    nfev = [r.nfev_samples + r.njev_samples for r in records]
    spent = result.get("nfev_samples", 0) + result.get("njev_samples", 0)
    if spent > nfev[-1]:  # nothing happened after the last record: the lines go on to the end
        nfev.append(spent)
        records.append(records[-1]._replace(value=math.nan, step_size=math.nan))
    for draw, axis in zip(panels, axes, strict=False):
        draw(axis, nfev, records)
    axes[-1].set_xlabel("evaluations (sample values and gradients)")
    chosen: Figure = axes[0].figure
    return chosen


def _objective(axis: Any, nfev: list[int], records: list[Any]) -> None:
    values = np.array([r.value for r in records])
    best = np.array([r.fun for r in records])
    if np.isfinite(values).any() and not np.array_equal(values, best):
        axis.plot(nfev, values, ".", ms=2, alpha=0.5, label="value of the step")
    axis.step(nfev, best, where="post", marker="o" if len(nfev) == 1 else None, label="best so far")
    if (best[np.isfinite(best)] > 0).all() and np.nanmax(best) > 100 * np.nanmin(best):
        axis.set_yscale("log")
    axis.set_ylabel("objective")
    axis.legend()


def _step_size(axis: Any, nfev: list[int], records: list[Any]) -> None:
    axis.semilogy(nfev, [r.step_size for r in records])
    axis.set_ylabel("step size")


def _failures(axis: Any, nfev: list[int], records: list[Any]) -> None:
    axis.step(nfev, [r.n_failed for r in records], where="post")
    axis.set_ylabel("failed evaluations")
