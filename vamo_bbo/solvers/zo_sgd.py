"""Zeroth-order stochastic gradient descent."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vamo_bbo._typing import Law
from vamo_bbo.core.calibration import Calibration
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import Difference, ForwardDifference, Replicates
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule

__all__ = ["CALIBRATION_DIRECTIONS", "calibration", "zo_sgd"]

CALIBRATION_DIRECTIONS = 8
"""Directions that calibrate a step size: the rms of their slopes has a relative standard deviation of about 1/4."""


def calibration(estimator: Difference, *, enough: bool = False) -> Calibration:
    """Return what a solver that steps along ``estimator`` measures at x0 when no learning rate is given.

    ``enough`` says that the size of the first step's estimate needs no measurement of its own; it never does when the
    step averages at least CALIBRATION_DIRECTIONS directions.
    """
    q = estimator.n_directions
    slopes = replace(estimator, n_directions=max(CALIBRATION_DIRECTIONS, q or 0), schedule=Constant())
    enough = enough or q is None or q >= CALIBRATION_DIRECTIONS
    return Calibration(slopes, Replicates(), q or CALIBRATION_DIRECTIONS, enough, estimator.smoothing is not None)


def zo_sgd(
    learning_rate: float | None = None,
    *,
    n_directions: int | None = None,
    smoothing: float | None = None,
    law: str | Law = "rademacher",
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""Gradient descent along random directions, from function values only.

    .. math:: x_{k+1} = x_k - \frac{\eta}{q} \sum_{j=1}^{q} \frac{f(x_k + \mu u_j) - f(x_k)}{\mu} u_j

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`. None makes the first step 0.01 ``x_scale`` in root mean square; on an objective that is
        not a sum, a step that raised f by more than its noise is then taken back and halved, and one that lowered it
        lets the next grow by a fifth.
    n_directions : int, optional
        q; None means ``min(8, d)``.
    smoothing : float, optional
        Rms length :math:`\mu` of a perturbation in units of ``x_scale``. None means 1e-4 (float32: 1e-2). If no
        learning rate is given it changes: where repeated values at x0 differ, to a length whose differences stand out
        of the noise; else, in float64 and not on a sum, it falls with the steps, to a hundredth of their rms and at
        least 1e-8, and gets longer again where equal differences show that the values have few digits.
    law : {"rademacher", "normal", "sphere", "coordinate", "block"}
        Distribution of the directions. Bounds admit rademacher, coordinate and block.
    schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`; a finite sum evaluates all values of a step on one mini-batch.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``q + 1`` values (per sample of the batch). Without a learning rate 3 values at the start, and 9 to
    45 more if they differ or q < 8; a step that is taken back costs its own round and one to measure the last good
    point anew. Memory: x and, below d = 1e6, the last good x; directions are regenerated, never stored.

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
    estimator = ForwardDifference(n_directions, smoothing, law)
    return Composite(
        Plain(estimator),
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
        calibration(estimator),
        averaging=averaging,
        name="zo-sgd",
    )
