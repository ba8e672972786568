"""ZO-AdaMM."""

from __future__ import annotations

from typing import Literal

from vamo_bbo._typing import Law
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import ForwardDifference
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import AdaMM
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.solvers.zo_sgd import calibration

__all__ = ["zo_adamm"]


def zo_adamm(
    learning_rate: float | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.99,
    n_directions: int | None = None,
    smoothing: float | None = None,
    law: str | Law = "rademacher",
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""AMSGrad on a zeroth-order estimate g.

    .. math::
        m_k = \beta_1 m_{k-1} + (1-\beta_1) g_k, \quad v_k = \beta_2 v_{k-1} + (1-\beta_2) g_k^2, \quad
        r_k = \max(r_{k-1}, v_k), \quad x_{k+1} = \Pi(x_k - \eta m_k / \sqrt{r_k})

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None means 0.01 (in units of ``x_scale``), the size of the first step.
    beta1, beta2 : float, default 0.9, 0.99
        Decay of the moments; see :class:`~vamo_bbo.rules.AdaMM`.
    n_directions, smoothing, law, schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.zo_sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``q + 1`` values (per sample of the batch). Memory: x, the last good x, three moments.

    References
    ----------
    X. Chen et al., "ZO-AdaMM: zeroth-order adaptive momentum method for black-box optimization", NeurIPS 2019,
    Algorithm 1. Deviations: sign directions; the projection in the metric of :math:`\sqrt{r}` is a clip, exact for a
    box.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], method=vb.zo_adamm(0.1), rng=0, maxfev=2000)
    >>> bool(result.fun < 1e-3)
    True
    """
    estimator = ForwardDifference(n_directions, smoothing, law)
    return Composite(
        Plain(estimator),
        AdaMM(learning_rate, beta1, beta2, schedule=schedule or Constant()),
        batch_size,
        sampling,
        calibration(estimator),
        averaging=averaging,
        name="zo-adamm",
    )
