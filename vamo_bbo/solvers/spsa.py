"""SPSA."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import CentralDifference
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Power
from vamo_bbo.solvers.zo_sgd import calibration

__all__ = ["spsa"]


def spsa(
    learning_rate: float | None = None,
    *,
    n_directions: int = 1,
    smoothing: float | None = None,
    stability: float = 10.0,
    step_decay: float = 0.602,
    smoothing_decay: float = 0.101,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""Simultaneous perturbation stochastic approximation: two values per step, made for noise.

    .. math::
        x_{k+1} = x_k - a_k \frac{f(x_k + c_k u_k) - f(x_k - c_k u_k)}{2 c_k} u_k, \quad
        a_k = a \Bigl(\frac{A+1}{k+1+A}\Bigr)^{0.602}, \quad c_k = \frac{c}{(k+1)^{0.101}}

    Parameters
    ----------
    learning_rate : float, optional
        Size a of the first gain; None chooses it from 8 probe pairs at the start, so that the first step is 0.01
        ``x_scale`` in root mean square.
    n_directions : int, default 1
        Directions averaged per step.
    smoothing : float, optional
        c, the first perturbation in units of ``x_scale``. None means 1e-4 (float32: 1e-2); where repeated values at x0
        differ and no learning rate is given, a length whose differences stand out of the noise.
    stability : float, default 10
        A; Spall recommends a tenth of the expected number of steps.
    step_decay, smoothing_decay : float, default 0.602, 0.101
        Spall's exponents.
    batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``2 n_directions`` values (per sample of the batch), and without a learning rate 3 + 16 to 80 at the
    start. Memory: x and, below d = 1e6, the last good x.

    References
    ----------
    J. C. Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation", IEEE
    Trans. Automatic Control 37(3), 1992; gains from J. C. Spall, "Implementation of the simultaneous perturbation
    algorithm for stochastic optimization", IEEE Trans. Aerospace and Electronic Systems 34(3), 1998. Deviation: the
    first gain is normalized, :math:`a_0 = a`.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], method=vb.spsa(0.2), rng=0, maxfev=2000)
    >>> bool(result.fun < 1e-3)
    True
    """
    estimator = replace(CentralDifference(n_directions, smoothing), schedule=Power(smoothing_decay))
    return Composite(
        Plain(estimator),
        Descent(learning_rate, Power(step_decay, stability)),
        batch_size,
        sampling,
        calibration(estimator),
        averaging=averaging,
        name="spsa",
    )
