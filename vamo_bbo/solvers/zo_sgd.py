"""Zeroth-order stochastic gradient descent."""

from __future__ import annotations

from typing import Literal

from vamo_bbo._typing import Law
from vamo_bbo.core.composite import Calibration, Composite
from vamo_bbo.estimators import ForwardDifference
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule

__all__ = ["CALIBRATION_DIRECTIONS", "calibration", "zo_sgd"]

CALIBRATION_DIRECTIONS = 8
"""Directions that calibrate a step size: the rms of their slopes has a relative standard deviation of about 1/4."""


def calibration(n_directions: int | None, smoothing: float | None, law: str | Law) -> Calibration | None:
    """Return the extra measurement that too few directions per step need before a step size can be chosen."""
    if n_directions is None or n_directions >= CALIBRATION_DIRECTIONS:
        return None
    return Calibration(ForwardDifference(CALIBRATION_DIRECTIONS, smoothing, law), n_directions)


def zo_sgd(
    learning_rate: float | None = None,
    *,
    n_directions: int | None = None,
    smoothing: float | None = None,
    law: str | Law = "rademacher",
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
) -> Composite:
    r"""Gradient descent along random directions, from function values only.

    .. math:: x_{k+1} = x_k - \frac{\eta}{q} \sum_{j=1}^{q} \frac{f(x_k + \mu u_j) - f(x_k)}{\mu} u_j

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None makes the first step 0.01 ``x_scale`` in root mean square.
    n_directions : int, optional
        q; None means ``min(8, d)``.
    smoothing : float, optional
        Rms length :math:`\mu` of a perturbation in units of ``x_scale``; None means 1e-4 (float32: 1e-2).
    law : {"rademacher", "normal", "sphere", "coordinate", "block"}
        Distribution of the directions. Bounds admit rademacher, coordinate and block.
    schedule, batch_size, sampling
        As in :func:`vamo_bbo.sgd`; a finite sum evaluates all values of a step on one mini-batch.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``q + 1`` values (per sample of the batch). With fewer than 8 directions and no learning rate, 9 more
    at the start. Memory: x and, below d = 1e6, the last good x; directions are regenerated, never stored.

    References
    ----------
    S. Ghadimi, G. Lan, "Stochastic first- and zeroth-order methods for nonconvex stochastic programming", SIAM J.
    Optim. 23(4), 2013 (normal directions, q = 1). Deviation: sign directions by default, whose elements are bounded.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], method=vb.zo_sgd(0.1), rng=0, maxfev=500)
    >>> bool(result.fun < 1e-3)
    True
    """
    return Composite(
        Plain(ForwardDifference(n_directions, smoothing, law)),
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
        calibration(n_directions, smoothing, law),
        name="zo-sgd",
    )
