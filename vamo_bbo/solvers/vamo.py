"""VAMO: mini-batch gradients with a control variate made of what the run already knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Law
from vamo_bbo.core import sampling as batches
from vamo_bbo.core.composite import DEFAULT_BATCH, Composite
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context, Cost, Request
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.estimators import Difference, ForwardDifference
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.gradient_tables import GradientTable
from vamo_bbo.kronecker import Kronecker
from vamo_bbo.recipes import ControlVariate, check_mixing
from vamo_bbo.rules import Descent
from vamo_bbo.schedules import Constant, Schedule
from vamo_bbo.sketch import Preconditioner
from vamo_bbo.sketch import preconditioner as make_preconditioner
from vamo_bbo.step_sizes import MeasuredStep
from vamo_bbo.untuned import Untuned
from vamo_bbo.value_tables import LearnedValues
from vamo_bbo.whole_sum import WholeSum

__all__ = ["vamo", "vamo_paper"]

Control = Literal["auto", "values", "gradients", "projections", "none"]
Sampling = Literal["auto", "epoch", "fixed", "iid"]

KEPT_SHARE = 0.5
"""Share of what a value table removes at its snapshot that is still removed on average until the next."""

AVERAGING = 8.0
"""Power of the polynomial average: it looks back over about a ninth of the steps so far."""

SMALLEST_BATCH, LARGEST_BATCH, WANTED_BATCHES = 8, 128, 500
"""Default mini-batch of the gradient table: a 500th of the samples, within limits. A step costs about 0.1 ms beyond its
samples, and with half as many batches in a pass the passes grow little (docs/benchmarks/finite_sum)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The recipe that suits the objective: value table, gradient table, its projections, or no control variate.

    Attributes
    ----------
    control : {"auto", "values", "gradients", "projections", "none"}
        Which; "auto" follows the rule in :func:`vamo`.
    values : ControlVariate
        The recipe of "values".
    table : GradientTable
        The recipe of the others, up to its storage.
    random : ControlVariate
        The recipe of an objective without a gradient where differences along all variables would be too many.
    repeats : bool
        Whether mini-batches may be a fixed partition.
    memory : float
        Bytes that the table may take.
    """

    control: Control
    values: ControlVariate
    table: GradientTable
    random: ControlVariate
    repeats: bool
    memory: float

    def resolve(
        self, info: ProblemInfo, size: int, batch_size: int
    ) -> ControlVariate | GradientTable | WholeSum | Untuned:
        """Return the recipe."""
        control = self._control(info, size, batch_size)
        if control == "values" and info.gradient == "none":
            return self.random
        if control == "values":
            # Learned coefficients need the gradient when a step is done, which a probe may have taken the place of.
            whole = not info.device and not isinstance(self.values, LearnedValues)
            return Untuned(self.values) if whole and self.table.step is not None else self.values
        table = replace(self.table, storage=control)
        return WholeSum(table) if WholeSum.suits(table, info, size) else table

    def _control(
        self, info: ProblemInfo, size: int, batch_size: int
    ) -> Literal["values", "gradients", "projections", "none"]:
        if self.control != "auto":
            return self.control
        if info.device or not self.table.estimator.exact(info, size):
            return "values"
        if not self.repeats:
            pays = info.gradient != "none" and self._values_pay(info, size, batch_size)
            return "values" if pays else "none"
        rows = 8.0 * batches.n_batches(info.n_samples or 1, batch_size)
        if rows * size <= self.memory:
            return "gradients"
        guided = self.table.preconditioner
        count = getattr(guided, "count", None)
        return "projections" if count is not None and rows * count(size) <= self.memory else "none"

    def _values_pay(self, info: ProblemInfo, size: int, batch_size: int) -> bool:
        """Return whether less noise is worth the values: variance left times price, relative to SGD's."""
        assert isinstance(self.values.control, Difference)
        q, n_batches = self.values.control.count(size), batches.n_batches(info.n_samples or 1, batch_size)
        passes = (self.values.epoch_length or n_batches) / n_batches
        return (1.0 - KEPT_SHARE * q / size) * (1.0 + (q + 1.0) / (passes * info.grad_cost)) < 1.0

    def preferred_batch(self, info: ProblemInfo, size: int) -> int:
        """Return the default mini-batch size."""
        exact = self.table.estimator.exact(info, size)
        if not exact or self.control == "values" or info.n_samples is None:
            return DEFAULT_BATCH
        return min(LARGEST_BATCH, max(SMALLEST_BATCH, info.n_samples // WANTED_BATCHES))

    def _of(self, ctx: Context) -> ControlVariate | GradientTable | WholeSum | Untuned:
        found: ControlVariate | GradientTable | WholeSum | Untuned | None = ctx.state.cache.get("recipe")
        if found is None:
            found = ctx.state.cache["recipe"] = self.resolve(ctx.info, ctx.size, ctx.batch_size)
        return found

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the arrays of the recipe."""
        return self.resolve(info, size, batch_size).arrays(info, size, batch_size)

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise if the recipe cannot work here."""
        self.resolve(info, size, self.preferred_batch(info, size)).check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the recipe's cost."""
        return self.resolve(info, size, batch_size).cost(info, size, batch_size)

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the recipe's requests."""
        return self._of(ctx).plan(ctx)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the recipe's estimate."""
        return self._of(ctx).combine(ctx, got)

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Let the recipe learn."""
        self._of(ctx).observe(ctx, got, estimate)


def vamo(
    learning_rate: float | None = None,
    *,
    control: Control = "auto",
    preconditioner: Literal["auto", "guided", "diagonal", "none"] | Preconditioner = "auto",
    rank: int | None = None,
    coefficient: float | Literal["adaptive"] = "adaptive",
    averaging: float | Literal["auto"] | None = "auto",
    memory: float = 2**30,
    n_directions: int | None = None,
    smoothing: float | None = None,
    mixing: float | Literal["paper", "optimal", "directions", "vector"] | None = None,
    law: str | Law | None = None,
    table: bool | None = None,
    epoch_length: int | None = None,
    schedule: Schedule | None = None,
    batch_size: int | None = None,
    sampling: Sampling = "auto",
) -> Composite:
    r"""Variance-reduced mixed-gradient optimizer: mini-batch gradients, a control variate, a learned metric.

    .. math::
        v_k = g_k - a \, (c_k - \bar c), \qquad x_{k+1} = x_k - \eta \, P^{-1} v_k

    with :math:`g_k = \nabla f_{I_k}(x_k)` and a control variate c known for every mini-batch:

    - ``"gradients"``: the batch's gradient when it was last computed (SAGA) and a the regression coefficient of g on c,
      learned from earlier batches (:class:`~vamo_bbo.gradient_tables.GradientTable`);
    - ``"projections"``: only its projections on q leading directions of the gradients' covariance;
    - ``"values"``: the published form, differences of function values at a snapshot along q random directions, from a
      table, :math:`v_k = g_k - \alpha (\hat\nabla f_{I_k}(y) - \hat\nabla f(y))`;
    - ``"none"``: a = 0.

    Coordinates that the gradient does not know (NaN at x0) are measured by forward differences on the step's own
    mini-batch, up to 1000 of them, and so are all of them where there is no gradient.

    Untuned by default: metric (:class:`~vamo_bbo.sketch.Guided`) and step size
    (:class:`~vamo_bbo.step_sizes.MeasuredStep`) are measured as the run goes, and the average of late iterates is the
    answer. With stored gradients and up to 200 variables without bounds the run goes on with gradients of all samples
    once mini-batches no longer pay, and ends where it has converged (:class:`~vamo_bbo.whole_sum.WholeSum`).

    Parameters
    ----------
    learning_rate : float, optional
        Step size :math:`\eta`. None measures it; with learned ``mixing`` or more than 1000 unknown coordinates it makes
        the first step 0.01 ``x_scale`` in root mean square.
    control : {"auto", "values", "gradients", "projections", "none"}
        Where the control variate comes from. "auto": "values" if an option of that form is given or more than 1000
        coordinates of the gradient are unknown; where batches may not repeat (``sampling`` "epoch", "iid"), "values" if
        ``(1 - q/(2d)) (1 + (q+1)/(E grad_cost)) < 1`` (variance left times price, E passes per snapshot), else "none";
        else "gradients" if N d numbers fit into ``memory``, "projections" if N q do, else "none". N is the number of
        mini-batches.
    preconditioner : {"auto", "guided", "diagonal", "none"} or Preconditioner
        P. "auto" is "guided" if the step size is measured and "none" if it is given. For a network,
        ``vb.Kronecker.of(module)`` (:class:`~vamo_bbo.Kronecker`); any object of the protocol in
        :mod:`vamo_bbo.sketch` will do.
    rank : int, optional
        Directions of the guided metric; None means d up to d = 200 and 16 above.
    coefficient : float or "adaptive"
        a of the stored gradients; 1 is SAGA.
    averaging : float, None or "auto"
        Power of the polynomial average of iterates that is recommended; None recommends the iterate. "auto" is 8 if
        the step size is measured and None if it is given.
    memory : float, default 2**30
        Bytes that the table may take under "auto".
    n_directions, smoothing, mixing, law, table, epoch_length
        Options of "values". q directions (None: ``min(8, d)``), the rms length of a perturbation (None: 1e-4, float32:
        1e-2), :math:`\alpha` ("optimal" by default: q/(d+q-1) for independent directions and the exact projection for
        the orthogonal "block"; "paper": 1/d; a number; or learned from the mini-batches since the snapshot, one
        coefficient per direction ("directions") or one vector ("vector"), see :mod:`vamo_bbo.value_tables`), the law
        ("block" by default, "sphere", "rademacher", "normal", "coordinate"), whether the snapshot's difference of every
        sample is kept (True by default: a step then needs no function value), and steps per snapshot (None: one pass
        over the data).
    schedule, sampling
        As in :func:`vamo_bbo.sgd`.
    batch_size : int, optional
        Samples per step; None means n/500 within 8 and 128 for stored gradients, and ``min(32, n)`` for "values".

    Returns
    -------
    Composite
        The solver, for ``minimize(method=...)``.

    Notes
    -----
    Cost of stored gradients: ``batch_size`` sample gradients per step; a measured step adds about eight probes of
    ``batch_size`` gradients and n/50 (at least 32) values per pass, somewhat more in the first, and 2 n values where
    f has grown on these samples; a metric adds N/20 (at least 8) batches at x0. A step on all samples takes n gradients
    (and n values, unless gradients bring them).
    Memory: table (N x d or N x q), sketch (``rank + 4`` vectors; two d x d matrices up to d = 200), and 10 vectors (54
    up to d = 200).
    Cost of "values": ``n (q + 1)`` sample values per epoch and ``batch_size`` sample gradients per step; without the
    table ``batch_size (q + 1)`` values per step more, and the same iterates up to rounding. Without a gradient the
    inner estimate of "values" is zeroth-order too and the method is ZO-SVRG with directions shared within a step.
    Every mini-batch gradient takes ``batch_size (m + 1)`` values more where m coordinates are unknown, and only these
    where all are.

    References
    ----------
    J. Chen, Z. Ma, "VAMO: efficient zeroth-order variance reduction for SGD with faster convergence", 2025, arXiv
    2505.13954, Algorithm 1, for "values"; deviations: the table, orthogonal directions, the optimal mixing and
    reshuffled batches; :func:`vamo_paper` has none of them. A. Defazio, F. Bach, S. Lacoste-Julien, "SAGA", NeurIPS
    2014, arXiv 1407.0202, for "gradients" with a = 1.

    Examples
    --------
    >>> import numpy as np, vamo_bbo as vb
    >>> a = np.linspace(-1.0, 1.0, 20)
    >>> data = vb.FiniteSum(lambda x, i: (x[0] - a[i]) ** 2, 20, grad=lambda x, i: np.array([2 * np.mean(x[0] - a[i])]))
    >>> bool(abs(vb.minimize(data, [3.0], method=vb.vamo(), rng=0).x[0]) < 1e-4)
    True
    >>> bool(abs(vb.minimize(data, [3.0], method=vb.vamo(0.1, control="values"), rng=0).x[0]) < 1e-4)
    True
    """
    asked = any(option is not None for option in (n_directions, smoothing, mixing, law, table, epoch_length))
    if control not in ("auto", "values", "gradients", "projections", "none"):
        raise OptionError(f"control must be 'auto', 'values', 'gradients', 'projections' or 'none', got {control!r}.")
    if asked and control not in ("auto", "values"):
        raise OptionError(
            "n_directions, smoothing, mixing, law, table and epoch_length are options of control='values', "
            f"got control={control!r}."
        )
    measured = learning_rate is None
    kind = (
        preconditioner if preconditioner != "auto" else ("guided" if measured or control == "projections" else "none")
    )
    power = averaging if averaging != "auto" else (AVERAGING if measured else None)
    differences = ForwardDifference(n_directions, smoothing, "block" if law is None else law)
    keep = table is None or table
    values: ControlVariate
    if mixing == "directions" or mixing == "vector":
        if not keep:
            raise OptionError(f"mixing={mixing!r} needs the table, got table=False.")
        values = LearnedValues(FirstOrder(), differences, "optimal", keep, epoch_length, form=mixing)
    else:
        check_mixing("optimal" if mixing is None else mixing)
        values = ControlVariate(FirstOrder(), differences, "optimal" if mixing is None else mixing, keep, epoch_length)
    recipe = Chosen(
        "values" if asked else control,
        values,
        GradientTable(
            "gradients",
            coefficient,
            make_preconditioner(kind, rank),
            MeasuredStep(network=isinstance(kind, Kronecker)) if measured else None,
            None if power is None else float(power),
        ),
        ControlVariate(differences, differences, 1.0, epoch_length=epoch_length, pairing="step"),
        sampling in ("auto", "fixed"),
        float(memory),
    )
    return Composite(
        recipe,
        Descent(learning_rate, schedule or Constant()),
        batch_size,
        sampling,
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
    J. Chen, Z. Ma, arXiv 2505.13954 (2025), Algorithm 1.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> vb.vamo_paper(0.1, n_directions=5).sampling
    'iid'
    """
    control = replace(ForwardDifference(n_directions, smoothing, "sphere"), unit_length=True)
    recipe = ControlVariate(FirstOrder(), control, mixing, table=False, epoch_length=epoch_length)
    return Composite(recipe, Descent(learning_rate), batch_size, "iid", name="vamo-paper")
