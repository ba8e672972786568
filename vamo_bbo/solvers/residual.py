"""Residual: a biased gradient corrected by the target's own values."""

from __future__ import annotations

from typing import Literal

from vamo_bbo._typing import Law
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import ForwardDifference
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Residual
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.solvers.zo_sgd import calibration

__all__ = ["residual"]


def residual(
    learning_rate: float | None = None,
    *,
    n_directions: int | None = None,
    smoothing: float | None = None,
    mixing: float | Literal["optimal"] = 1.0,
    law: str | Law = "rademacher",
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""Descent along a surrogate's gradient s, corrected by differences of the true objective.

    .. math:: v = b s + \sum_{j=1}^{q} w_j (D_j - b \langle s, u_j \rangle) u_j, \quad x_{k+1} = x_k - \eta v

    :math:`D_j` is the difference quotient of the *target* along :math:`u_j`; s comes from ``jac`` (``grad`` of a
    :class:`~vamo_bbo.FiniteSum`) and may be wrong: a surrogate model's, a cheaper simulator's, another network's. It is
    the control variate of the zeroth-order estimate: where s is good the noise of few directions nearly vanishes, where
    it is bad the estimate is the plain one. b is the regression of earlier D on :math:`\langle s, u \rangle`, 1 at the
    start.

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None makes the first step 0.01 ``x_scale`` in root mean square.
    n_directions, smoothing, law, schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.zo_sgd`.
    mixing : float or "optimal", default 1
        Factor of the correction. 1 is unbiased whatever s is; "optimal" has the smallest error and a bias towards s.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``q + 1`` values of the target and one surrogate gradient (per sample of the batch). Memory: x, the
    last good x and the surrogate's gradient. The gradient check is off for this method.

    References
    ----------
    Control variates for zeroth-order estimates with a surrogate gradient go back to N. Maheswaranathan et al., "Guided
    evolutionary strategies", ICML 2019, and S. Cheng et al., "Improving black-box adversarial attacks with a
    transfer-based prior", NeurIPS 2019; the regression form is this project's (see the page on biased gradients).

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> wrong = lambda x: 2.0 * x + 0.3                       # a surrogate with a constant error
    >>> solver = vb.residual(0.2, n_directions=1)
    >>> result = vb.minimize(lambda x: float(x @ x), np.ones(4), jac=wrong, method=solver, rng=0, maxfev=800)
    >>> bool(result.fun < 1e-3)
    True
    """
    target = ForwardDifference(n_directions, smoothing, law)
    return Composite(
        Residual(FirstOrder(with_value=False), target, mixing),
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
        calibration(target, enough=True),
        averaging=averaging,
        name="residual",
    )
