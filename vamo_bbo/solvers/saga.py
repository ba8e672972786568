"""SAGA, SARAH, STORM and averaged SGD: what the field has for finite sums beside SVRG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Tag
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context, Cost, Request
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.gradient_tables import GradientTable
from vamo_bbo.recipes import Recursive
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.step_sizes import NOISE_REDUCED, MeasuredStep
from vamo_bbo.untuned import Untuned

__all__ = ["RecursiveMomentum", "asgd", "saga", "sarah", "storm"]

Sampling = Literal["auto", "epoch", "fixed", "iid"]


def saga(
    learning_rate: float | None = None,
    *,
    averaging: float | None = None,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
) -> Composite:
    r"""SAGA on fixed mini-batches: every batch's last gradient is its control variate.

    .. math:: x_{k+1} = x_k - \eta \bigl(g_k - T_k + \bar T\bigr), \qquad T_k \leftarrow g_k

    The table fills during the first pass, which is plain stochastic gradient descent.

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None measures it (:class:`~vamo_bbo.step_sizes.MeasuredStep`).
    averaging : float, optional
        Power of the polynomial average of iterates that is recommended; None recommends the iterate.
    schedule : Schedule, optional
        Factor of the step size over time; constant by default.
    batch_size : int, optional
        Samples per step; None means ``min(32, n)``.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``batch_size`` sample gradients. Memory: N x d numbers for N mini-batches, and x, the last good x,
    the mean of the table and the gradient.

    References
    ----------
    A. Defazio, F. Bach, S. Lacoste-Julien, "SAGA: a fast incremental gradient method with support for non-strongly
    convex composite objectives", NeurIPS 2014, arXiv 1407.0202. Deviations: mini-batches, reshuffled rather than drawn
    with replacement, and the plain first pass.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=saga(0.1, batch_size=4), rng=0).x[0]) < 1e-6)
    True
    """
    step = NOISE_REDUCED if learning_rate is None else None
    recipe = GradientTable("gradients", 1.0, None, step, averaging)
    return Composite(recipe, Descent(learning_rate, schedule or Constant()), batch_size, "fixed", name="saga")


def asgd(
    learning_rate: float | None = None,
    *,
    averaging: float = 8.0,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Sampling = "auto",
) -> Composite:
    r"""Averaged stochastic gradient descent: SGD whose answer is a polynomial average of its iterates.

    .. math:: \bar x_t = \bar x_{t-1} + \frac{p+1}{t+p} (x_t - \bar x_{t-1})

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None measures it (:class:`~vamo_bbo.step_sizes.MeasuredStep`).
    averaging : float, default 8
        Power p: the average looks back over about 1/(p+1) of the steps so far.
    schedule : Schedule, optional
        Factor of the step size over time; constant by default.
    batch_size : int, optional
        Samples per step; None means ``min(32, n)``.
    sampling : {"auto", "epoch", "fixed", "iid"}
        How mini-batches are drawn, see :class:`~vamo_bbo.core.composite.Composite`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``batch_size`` sample gradients. Memory: x, the last good x, the average and the gradient.

    References
    ----------
    B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992.
    O. Shamir, T. Zhang, "Stochastic gradient descent for non-smooth optimization", ICML 2013, section 4, for the
    weights.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=asgd(0.1, batch_size=4), rng=0).x[0]) < 1e-2)
    True
    """
    if not averaging >= 0:
        raise OptionError(f"averaging must be at least 0, got {averaging!r}.")
    step = MeasuredStep() if learning_rate is None else None
    recipe = GradientTable("none", 0.0, None, step, averaging)
    return Composite(recipe, Descent(learning_rate, schedule or Constant()), batch_size, sampling, name="asgd")


def sarah(
    learning_rate: float | None = None,
    *,
    epoch_length: int | None = None,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Sampling = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""SARAH (SPIDER): a direction that every mini-batch corrects, restarted by a full gradient.

    .. math:: v_k = \nabla f_{I_k}(x_k) - \nabla f_{I_k}(x_{k-1}) + v_{k-1}, \qquad x_{k+1} = x_k - \eta v_k

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None measures it (:class:`~vamo_bbo.step_sizes.MeasuredStep`).
    epoch_length : int, optional
        Steps between full gradients; None means one pass over the data.
    schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost: n sample gradients per restart and ``2 batch_size`` per step. Memory: x, the last good x, the previous x, the
    direction, and two gradients.

    References
    ----------
    L. Nguyen, J. Liu, K. Scheinberg, M. Takac, "SARAH", ICML 2017, arXiv 1703.00102, Algorithm 1; C. Fang, C. Li,
    Z. Lin, T. Zhang, "SPIDER", NeurIPS 2018, for the nonconvex analysis.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=sarah(0.1, batch_size=4), rng=0).x[0]) < 1e-4)
    True
    """
    recipe = Recursive(FirstOrder(), epoch_length)
    chosen = Untuned(recipe, NOISE_REDUCED) if learning_rate is None else recipe
    rule = Descent(learning_rate, schedule or Constant())
    return Composite(chosen, rule, batch_size, sampling, averaging=averaging, name="sarah")


@dataclass(frozen=True, slots=True)
class RecursiveMomentum:
    """``v_k = g_I(x_k) + (1 - decay) (v_{k-1} - g_I(x_{k-1}))``: STORM's direction, without any full pass.

    Examples
    --------
    >>> [spec.name for spec in RecursiveMomentum(0.1).arrays(ProblemInfo(n_samples=9, gradient="full"), 4, 3)]
    ['previous', 'direction']
    """

    decay: float
    estimator: FirstOrder = field(default_factory=FirstOrder)

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise OptionError(f"decay must satisfy 0 < decay <= 1, got {self.decay!r}.")

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the previous iterate and the running direction."""
        return ArraySpec("previous", (size,)), ArraySpec("direction", (size,))

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise without a finite sum or a gradient."""
        if info.n_samples is None:
            raise CapabilityError("this method needs a FiniteSum objective; for a plain callable use method='sgd'.")
        self.estimator.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return two gradients per sample and step."""
        values, gradients = self.estimator.cost(info, size)
        return Cost(2 * batch_size * values, 2 * batch_size * gradients)

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the gradients of one mini-batch at x and, after the first step, at the previous x."""
        batch, stream = (ctx.mini_batch(),), ctx.stream(Tag.MAIN)
        here = Request("x", self.estimator, ctx.anchor("x"), batch, stream)
        if ctx.step == 0:
            return (here,)
        return here, Request("previous", self.estimator, ctx.anchor("previous"), batch, stream)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the running direction."""
        direction = ctx.arrays["direction"]
        if "previous" in got:
            keep = 1.0 - self.decay
            direction *= direction.dtype.type(keep)
            change = got["x"].estimate - keep * got["previous"].estimate
            ctx.directions.accumulate(change.terms, change.dense, 0, ctx.size, direction)
        else:
            got["x"].estimate.fill(ctx.directions, 0, ctx.size, direction)
        ctx.copy_anchor("x", "previous")
        return Estimate((), ((1.0, direction),))

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Learn nothing: ``combine`` kept the direction."""


def storm(
    learning_rate: float | None = None,
    *,
    decay: float = 0.1,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Sampling = "auto",
    averaging: float | None = None,
) -> Composite:
    r"""STORM: recursive momentum, variance reduction without full gradients.

    .. math::
        v_k = \nabla f_{I_k}(x_k) + (1 - a) \bigl(v_{k-1} - \nabla f_{I_k}(x_{k-1})\bigr), \quad
        x_{k+1} = x_k - \eta v_k

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`; None measures it (:class:`~vamo_bbo.step_sizes.MeasuredStep`).
    decay : float, default 0.1
        a, in (0, 1]; 1 is stochastic gradient descent.
    schedule, batch_size, sampling, averaging
        As in :func:`vamo_bbo.sgd`.

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost per step: ``2 batch_size`` sample gradients. Memory: x, the last good x, the previous x, the direction, and two
    gradients. Deviation from the paper: a and the step size are constants (times the schedule), not its adaptive ones.

    References
    ----------
    A. Cutkosky, F. Orabona, "Momentum-based variance reduction in non-convex SGD", NeurIPS 2019, arXiv 1905.10018.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=storm(0.1, batch_size=4), rng=0).x[0]) < 0.1)
    True
    """
    recipe = RecursiveMomentum(decay)
    chosen = Untuned(recipe, NOISE_REDUCED) if learning_rate is None else recipe
    rule = Descent(learning_rate, schedule or Constant())
    return Composite(chosen, rule, batch_size, sampling, averaging=averaging, name="storm")
