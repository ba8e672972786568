"""VAMO: mini-batch gradients with a zeroth-order snapshot as control variate."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vamo_bbo._typing import Law
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import FirstOrder, ForwardDifference
from vamo_bbo.recipes import ControlVariate, check_mixing
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule

__all__ = ["vamo", "vamo_paper"]


def vamo(
    learning_rate: float | None = None,
    *,
    n_directions: int | None = None,
    smoothing: float | None = None,
    mixing: float | Literal["paper", "optimal"] = "optimal",
    law: str | Law = "block",
    table: bool = True,
    epoch_length: int | None = None,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
) -> Composite:
    r"""Variance-reduced mixed-gradient optimizer: first-order steps, zeroth-order snapshots.

    .. math::
        v_k = \nabla f_{I_k}(x_k) - \alpha \bigl(\hat\nabla f_{I_k}(y) - \hat\nabla f(y)\bigr), \quad
        x_{k+1} = x_k - \eta v_k

    y is the iterate at the start of the epoch. The zeroth-order estimates use one set of q directions per epoch, for
    the snapshot and for all its mini-batches, so the correction has zero mean.

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None makes the first step 0.01 ``x_scale`` in root mean square.
    n_directions : int, optional
        q; None means ``min(8, d)``. The share of the gradient's variance that goes is at most q/d.
    smoothing : float, optional
        Rms length of a perturbation in units of ``x_scale``; None means 1e-4 (float32: 1e-2).
    mixing : float, "paper" or "optimal"
        :math:`\alpha`. "paper" is 1/d. "optimal" is q/(d+q-1) for independent directions and the exact projection for
        the orthogonal "block" directions, which leaves 1 - q/d of the variance at the snapshot.
    law : {"block", "sphere", "rademacher", "normal", "coordinate"}
        Distribution of the directions.
    table : bool, default True
        Keep the snapshot's difference of every sample (n x q float64): a step then needs no function value.
    epoch_length : int, optional
        Steps per snapshot; None means one pass over the data.
    schedule, batch_size, sampling
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost: ``n (q + 1)`` sample values per epoch and ``batch_size`` sample gradients per step; without the table
    ``batch_size (q + 1)`` values per step more, and the same iterates up to rounding. Memory: x, the last good x, the
    gradient, and the table or the snapshot. Without a gradient the inner estimate is zeroth-order too and the method is
    ZO-SVRG with directions shared within a step.

    References
    ----------
    J. Chen, H. Ma, "VAMO: efficient zeroth-order variance reduction for SGD with faster convergence", 2025, arXiv
    2505.13954, Algorithm 1. Deviations: the table, orthogonal directions, the optimal mixing and reshuffled batches;
    :func:`vamo_paper` has none of them.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=vb.vamo(0.1), rng=0).x[0]) < 1e-4)
    True
    """
    check_mixing(mixing)
    control = ForwardDifference(n_directions, smoothing, law)
    recipe = ControlVariate(FirstOrder(), control, mixing, table, epoch_length)
    values_only = ControlVariate(control, control, 1.0, epoch_length=epoch_length, pairing="step")
    return Composite(
        recipe,
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
        without_gradient=values_only,
        name="vamo",
    )


def vamo_paper(
    learning_rate: float | None = None,
    *,
    n_directions: int = 1,
    smoothing: float = 1e-3,
    mixing: float | Literal["paper", "optimal"] = "paper",
    epoch_length: int | None = None,
    batch_size: int | None = None,
) -> Composite:
    r"""VAMO exactly as published: sphere directions, :math:`\alpha = 1/d`, independent batches, no table.

    .. math::
        \hat\nabla f_I(x) = \frac{d}{q \mu} \sum_{j=1}^{q} \bigl(f_I(x + \mu u_j) - f_I(x)\bigr) u_j, \quad \|u_j\| = 1

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None makes the first step 0.01 ``x_scale`` in root mean square.
    n_directions : int, default 1
        q; 1 is the paper's two-point form, larger its multi-point form.
    smoothing : float, default 1e-3
        The paper's :math:`\mu`: length of a perturbation along the unit direction.
    mixing : float, "paper" or "optimal"
        :math:`\alpha`; "paper" is 1/d.
    epoch_length : int, optional
        Steps per snapshot; None means one pass over the data.
    batch_size : int, optional
        Samples per step; None means ``min(32, n)``.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost: ``n (q + 1)`` sample values per epoch; per step ``batch_size`` sample gradients and ``batch_size (q + 1)``
    values.

    References
    ----------
    J. Chen, H. Ma, arXiv 2505.13954 (2025), Algorithm 1.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> vb.vamo_paper(0.1, n_directions=5).sampling
    'iid'
    """
    control = replace(ForwardDifference(n_directions, smoothing, "sphere"), unit_length=True)
    recipe = ControlVariate(FirstOrder(), control, mixing, table=False, epoch_length=epoch_length)
    return Composite(recipe, Descent(learning_rate), batch_size, "iid", name="vamo-paper")
