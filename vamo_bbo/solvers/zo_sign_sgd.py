"""ZO-signSGD."""

from __future__ import annotations

from typing import Literal

from vamo_bbo._typing import Law
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import ForwardDifference
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Sign
from vamo_bbo.schedules import Power, Schedule
from vamo_bbo.solvers.zo_sgd import calibration

__all__ = ["zo_sign_sgd"]


def zo_sign_sgd(
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
    r"""Steps of equal size along the sign of a zeroth-order estimate.

    .. math:: x_{k+1} = x_k - \eta_k \operatorname{sign}\Bigl(\sum_{j=1}^q \frac{f(x_k+\mu u_j)-f(x_k)}{\mu} u_j\Bigr)

    Parameters
    ----------
    learning_rate : float, optional
        Size of the first step in every coordinate; None means 0.01 (in units of ``x_scale``).
    n_directions, smoothing, law, batch_size, sampling, averaging
        As in :func:`vamo_bbo.zo_sgd`.
    schedule : Schedule, optional
        Factor of the step size over time; None means ``1/sqrt(k + 1)``, as sign steps do not shrink by themselves.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``q + 1`` values (per sample of the batch). Memory: x and the last good x.

    References
    ----------
    S. Liu, P.-Y. Chen, X. Chen, M. Hong, "signSGD via zeroth-order oracle", ICLR 2019, Algorithm 1. Deviation: sign
    directions instead of uniform ones on the sphere.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], method=vb.zo_sign_sgd(0.1), rng=0, maxfev=3000)
    >>> bool(result.fun < 1e-2)
    True
    """
    estimator = ForwardDifference(n_directions, smoothing, law)
    return Composite(
        Plain(estimator),
        Sign(learning_rate, schedule or Power(0.5)),
        batch_size,
        sampling,
        calibration(estimator),
        averaging=averaging,
        name="zo-sign-sgd",
    )
