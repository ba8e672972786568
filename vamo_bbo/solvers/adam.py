"""Adam."""

from __future__ import annotations

from typing import Literal

from vamo_bbo.core.composite import Composite
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Adam
from vamo_bbo.schedules import Constant, Schedule

__all__ = ["adam"]


def adam(
    learning_rate: float | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""Adam on mini-batch gradients.

    .. math::
        m_k = \beta_1 m_{k-1} + (1-\beta_1) g_k, \quad v_k = \beta_2 v_{k-1} + (1-\beta_2) g_k^2, \quad
        x_{k+1} = x_k - \eta \frac{m_k / (1-\beta_1^k)}{\sqrt{v_k / (1-\beta_2^k)} + \epsilon}

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None means 0.01 (in units of ``x_scale``), the size of the first step.
    beta1, beta2, epsilon : float
        The paper's defaults 0.9, 0.999, 1e-8.
    weight_decay : float, default 0
        Decoupled decay: every step first multiplies x by :math:`1 - \eta` ``weight_decay`` (AdamW). It pulls x to 0 and
        changes the minimum.
    schedule : Schedule, optional
        Factor of the step size over time; constant by default.
    batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``batch_size`` sample gradients, no value; one gradient and one value of a plain callable. Memory: x,
    the last good x, two moments, the gradient.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv 1412.6980, Algorithm 1.
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv 1711.05101, for AdamW.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], jac=lambda x: 2 * x, method=vb.adam(0.1))
    >>> bool(result.fun < 1e-4)
    True
    """
    rule = Adam(learning_rate, beta1, beta2, epsilon, schedule or Constant(), weight_decay)
    return Composite(Plain(FirstOrder()), rule, batch_size, sampling, averaging=averaging, name="adam")
