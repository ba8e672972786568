"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Literal

from vamo_bbo.core.composite import Composite
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.untuned import Untuned

__all__ = ["sgd"]


def sgd(
    learning_rate: float | None = None,
    *,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""Stochastic gradient descent on mini-batches; gradient descent on an objective that is not a sum.

    .. math:: x_{k+1} = x_k - \eta_k \nabla f_{I_k}(x_k)

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`. None measures it on a finite sum (:class:`~vamo_bbo.step_sizes.MeasuredStep`); elsewhere
        it makes the first step 0.01 ``x_scale`` in root mean square.
    schedule : Schedule, optional
        Factor of the step size over time; constant by default.
    batch_size : int, optional
        Samples per step; None means ``min(32, n)``.
    sampling : {"auto", "epoch", "fixed", "iid"}
        How mini-batches are drawn, see :class:`~vamo_bbo.core.composite.Composite`.
    averaging : float >= 0, optional
        Recommend a running average of the iterates, with this power p: it looks back over about 1/(p+1) of the steps so
        far (0: over all of them, Polyak and Ruppert's; 3 or 8: a suffix). For noise that keeps iterates from settling;
        one vector more. None recommends the last iterate.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``batch_size`` sample gradients, no value; one gradient and one value of a plain callable. Memory: x
    and the last good x, plus the gradient.

    References
    ----------
    H. Robbins, S. Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22(3), 1951.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], jac=lambda x: 2 * x, method=vb.sgd(0.25))
    >>> bool(result.fun < 1e-8)
    True
    """
    return Composite(
        Untuned(Plain(FirstOrder())) if learning_rate is None else Plain(FirstOrder()),
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
        averaging=averaging,
        name="sgd",
    )
