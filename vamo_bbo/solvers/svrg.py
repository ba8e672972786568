"""SVRG."""

from __future__ import annotations

from typing import Literal

from vamo_bbo.core.composite import Composite
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import ControlVariate
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.step_sizes import NOISE_REDUCED
from vamo_bbo.untuned import Untuned

__all__ = ["svrg"]


def svrg(
    learning_rate: float | None = None,
    *,
    epoch_length: int | None = None,
    loopless: bool = False,
    snapshot_size: int | None = None,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""Stochastic variance-reduced gradient: the snapshot's gradients as control variate.

    .. math:: v_k = \nabla f_{I_k}(x_k) - \nabla f_{I_k}(y) + \nabla f(y), \quad x_{k+1} = x_k - \eta v_k

    Every ``epoch_length`` steps the iterate becomes the snapshot y (option I of the paper).

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None measures it on a finite sum (:class:`~vamo_bbo.step_sizes.MeasuredStep`).
    epoch_length : int, optional
        Steps per snapshot; None means one pass over the data.
    loopless : bool, default False
        Draw at every step, with probability 1 / ``epoch_length``, whether x becomes the snapshot (L-SVRG).
    snapshot_size : int, optional
        Samples whose mean gradient stands for the full one at a snapshot (SCSG); None means all n. Cheaper
        snapshots for large n and loose targets, at the price of a noise floor.
    schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost: n (or ``snapshot_size``) sample gradients per snapshot and ``2 batch_size`` per step. Memory: x, the last good
    x, the snapshot and its gradient, plus two mini-batch gradients; a measured step takes seven vectors more.

    References
    ----------
    R. Johnson, T. Zhang, "Accelerating stochastic gradient descent using predictive variance reduction", NeurIPS 2013.
    D. Kovalev, S. Horvath, P. Richtarik, "Don't jump through hoops and remove those loops", ALT 2020, arXiv 1901.08689,
    for ``loopless``. L. Lei, M. Jordan, "Less than a single pass: stochastically controlled stochastic gradient",
    AISTATS 2017, arXiv 1609.03261, for ``snapshot_size``; deviation: drawn with replacement.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=vb.svrg(0.1), rng=0).x[0]) < 1e-6)
    True
    """
    recipe = ControlVariate(
        FirstOrder(),
        FirstOrder(),
        mixing=1.0,
        epoch_length=epoch_length,
        loopless=loopless,
        snapshot_size=snapshot_size,
    )
    chosen = Untuned(recipe, NOISE_REDUCED) if learning_rate is None else recipe
    rule = Descent(learning_rate, schedule or Constant())
    return Composite(chosen, rule, batch_size, sampling, averaging=averaging, name="svrg")
