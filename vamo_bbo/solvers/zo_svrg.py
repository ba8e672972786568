"""ZO-SVRG: plain, averaged and coordinate-wise."""

from __future__ import annotations

from typing import Literal

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Law
from vamo_bbo.core.composite import Composite
from vamo_bbo.estimators import CoordinateDifference, ForwardDifference
from vamo_bbo.recipes import ControlVariate
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.solvers.zo_sgd import calibration

__all__ = ["zo_svrg"]


def zo_svrg(
    learning_rate: float | None = None,
    *,
    variant: Literal["plain", "average", "coordinate"] = "average",
    n_directions: int | None = None,
    smoothing: float | None = None,
    law: str | Law = "sphere",
    share_directions: bool = False,
    epoch_length: int | None = None,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Literal["auto", "epoch", "fixed", "iid"] = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""SVRG with every gradient replaced by a zeroth-order estimate.

    .. math:: v_k = \hat\nabla f_{I_k}(x_k) - \hat\nabla f_{I_k}(y) + \hat\nabla f(y), \quad x_{k+1} = x_k - \eta v_k

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None makes the first step 0.01 ``x_scale`` in root mean square.
    variant : {"average", "plain", "coordinate"}
        Averaged over ``n_directions`` random directions (ZO-SVRG-Ave), one direction (ZO-SVRG), or central differences
        along all coordinates (ZO-SVRG-Coord).
    n_directions : int, optional
        q of "average"; None means ``min(8, d)``.
    smoothing, law
        As in :func:`vamo_bbo.zo_sgd`; the paper's directions are uniform on the sphere. With bounds use "rademacher".
    share_directions : bool, default False
        Use one set of directions for x and the snapshot within a step, so that their difference is small near the
        snapshot. False draws the three estimates independently, as the paper's Algorithm 2.
    epoch_length : int, optional
        Steps per snapshot (the paper's m); None means one pass over the data.
    schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost: ``n (q + 1)`` sample values per snapshot and ``2 b (q + 1)`` per step ("coordinate": 2 n d and 4 b d). Memory:
    x, the last good x, the snapshot and q scalars.

    References
    ----------
    S. Liu et al., "Zeroth-order stochastic variance reduction for nonconvex optimization", NeurIPS 2018, Algorithm 2,
    equations (6) to (8). Deviation: the directions of an estimate are shared by the samples of its batch (the paper's
    equations draw one per sample), so that a batch is one call of the objective.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20)
    >>> solver = vb.zo_svrg(0.1, share_directions=True)
    >>> bool(abs(vb.minimize(data, [3.0], method=solver, rng=0).x[0]) < 1e-3)
    True
    """
    if variant not in ("plain", "average", "coordinate"):
        raise OptionError(f"variant must be 'plain', 'average' or 'coordinate', got {variant!r}.")
    count = 1 if variant == "plain" else n_directions
    coordinate = variant == "coordinate"
    estimator = CoordinateDifference(smoothing) if coordinate else ForwardDifference(count, smoothing, law)
    pairing: Literal["step", "none"] = "step" if share_directions or coordinate else "none"
    recipe = ControlVariate(estimator, estimator, mixing=1.0, epoch_length=epoch_length, pairing=pairing)
    return Composite(
        recipe,
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
        None if coordinate else calibration(estimator),
        averaging=averaging,
        name="zo-svrg",
    )
