"""Accelerated descent along random directions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, Law
from vamo_bbo.core.calibration import GROWTH
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.solver import Context
from vamo_bbo.estimators import ForwardDifference
from vamo_bbo.recipes import Plain
from vamo_bbo.solvers.zo_sgd import CALIBRATION_DIRECTIONS, calibration

__all__ = ["Accelerated", "zo_nesterov"]

FIRST_CUT = 0.25
"""Factor on the step size when it has first become too long: a momentum wants less than what plain steps bear."""
CUT = 0.7
"""The same later; and a step size doubles in as many values as there are variables."""


@dataclass(frozen=True, slots=True)
class Accelerated:
    r"""Nesterov's step in the form for random subspaces, restarted where f has risen.

    x is where f is measured, z the far sequence, s = q/d the share of the space that an estimate v sees:
    :math:`z \leftarrow z - \eta (s / \theta) v,\; w = x - \eta v,\; x \leftarrow (1 - \theta_+) w + \theta_+ z` with
    :math:`\theta_+ = \tfrac12 (\sqrt{\theta^4 + 4 \theta^2} - \theta^2)`, :math:`\theta = s` and z = x at a restart.

    Parameters
    ----------
    n_directions : int or None
        q; None means ``min(8, d)``.
    learning_rate : float, optional
        Step size; None calibrates it, and adapts it at every step.

    Examples
    --------
    >>> Accelerated(8).slots
    ('far',)
    """

    n_directions: int | None
    learning_rate: float | None = None
    slots: tuple[str, ...] = field(default=("far",), init=False)
    linear: bool = field(default=False, init=False)
    reductions: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise OptionError(f"learning_rate must be positive or None, got {self.learning_rate!r}.")

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the step size, how much longer the far step is, the weight of the far sequence, and whether it is new.

        Until the first failure the steps are plain and grow fast: their length is not known yet.
        """
        kept, adapts = ctx.scalars, self.learning_rate is None and ctx.info.n_samples is None
        share = min(1.0, (self.n_directions or CALIBRATION_DIRECTIONS) / ctx.size)
        pace, plain, failed = kept.get("pace", 1.0), kept.get("plain", float(adapts)), ctx.state.attempt > 0
        if failed:
            if adapts and kept["damping"] == 1.0:  # f has risen; a crash damps the steps by itself
                pace *= FIRST_CUT if plain else CUT
            plain = 0.0
        elif adapts and ctx.step and kept["since"] == 0.0:  # f has fallen by more than its noise
            pace *= GROWTH if plain else 2.0**share
        new = failed or bool(plain) or ctx.step == 0
        theta = share if new else kept["theta"]
        ahead = 0.5 * (math.sqrt(theta**4 + 4.0 * theta**2) - theta**2)
        kept["pace"], kept["plain"], kept["theta"] = pace, plain, ahead
        rate = kept["learning_rate"] if self.learning_rate is None else self.learning_rate
        rate *= pace * kept["damping"]
        return {"learning_rate": rate, "far_rate": rate * share / theta, "ahead": ahead, "new": float(new)}

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Move one tile."""
        far, real = slots["far"], x.dtype.type
        if scalars["new"]:
            far[...] = x
        far -= real(scalars["far_rate"]) * g
        x -= real(scalars["learning_rate"]) * g
        x += real(scalars["ahead"]) * (far - x)


def zo_nesterov(
    learning_rate: float | None = None,
    *,
    n_directions: int | None = None,
    smoothing: float | None = None,
    law: str | Law = "rademacher",
) -> Composite:
    r"""Accelerated gradient descent along random directions, from function values only.

    Where :func:`vamo_bbo.zo_sgd` needs a number of values in proportion to d and to the condition number, the momentum
    here needs one in proportion to d and its root. It is meant for many variables and values without noise.

    .. math::
        g_k &= \frac1q \sum_{j=1}^{q} \frac{f(x_k + \mu u_j) - f(x_k)}{\mu} u_j, \quad
        w_{k+1} = x_k - \eta g_k, \quad z_{k+1} = z_k - \eta \frac{q}{d \theta_k} g_k, \\
        x_{k+1} &= (1 - \theta_{k+1}) w_{k+1} + \theta_{k+1} z_{k+1}, \quad
        \theta_{k+1} = \tfrac12 \left(\sqrt{\theta_k^4 + 4 \theta_k^2} - \theta_k^2\right), \quad \theta_0 = q / d

    Where :math:`f(x_k)` has risen the last step is taken back, and the momentum starts anew (:math:`z = x, \theta = q /
    d`).

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`. None makes the first step 0.01 ``x_scale`` in root mean square and adapts it: it grows
        by a fifth per step until f rises, is then divided by four, and from there doubles in d values and is cut by 0.7
        at every further rise. A given step size stays as it is, and only a failure of the objective restarts the
        momentum.
    n_directions : int, optional
        q; None means ``min(8, d)``.
    smoothing : float, optional
        As in :func:`vamo_bbo.zo_sgd`.
    law : {"rademacher", "normal", "sphere", "coordinate", "block"}
        Distribution of the directions. Bounds admit rademacher, coordinate and block.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``q + 1`` values. Memory: x, z, the last good x and the point evaluated; directions are regenerated,
    never stored. On a finite sum the values of different mini-batches do not compare: nothing is adapted there, and
    :func:`vamo_bbo.zo_sgd` is the better choice; so it is within bounds, where the slopes do not vanish at a minimum.

    References
    ----------
    Y. Nesterov, V. Spokoiny, "Random gradient-free minimization of convex functions", Found. Comput. Math. 17, 2017,
    section 5 (acceleration with random directions). O. Fercoq, P. Richtarik, "Accelerated, parallel and proximal
    coordinate descent", SIAM J. Optim. 25(4), 2015, algorithm 1 (the form with :math:`\theta`). B. O'Donoghue, E.
    Candes, "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 15, 2015, section 3.2 (restart by
    the function's value). Deviations: sign directions, a step size that is found, and our constants of its growth and
    cuts.

    Examples
    --------
    >>> import numpy as np
    >>> import vamo_bbo as vb
    >>> stiff = np.geomspace(1.0, 1000.0, 400)
    >>> call = {"fun": lambda x: float(stiff @ (x * x)), "x0": np.ones(400), "rng": 0, "maxfev": 20_000}
    >>> bool(vb.minimize(**call, method="zo-nesterov").fun < 0.5 * vb.minimize(**call, method="zo-sgd").fun)
    True
    """
    estimator = ForwardDifference(n_directions, smoothing, law)
    return Composite(
        Plain(estimator),
        Accelerated(n_directions, learning_rate),
        calibration=calibration(estimator),
        name="zo-nesterov",
    )
