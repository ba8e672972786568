"""Recipes: which estimates a step needs, where and on which samples, and how they become one direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import AnyDirection, Direction, FloatArray, Law, Tag
from vamo_bbo.core import sampling
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context, Cost, Estimator, Request, Stream
from vamo_bbo.core.types import Batch, ProblemInfo
from vamo_bbo.estimators import Difference
from vamo_bbo.first_order import FirstOrder

__all__ = ["ControlVariate", "Plain", "Recursive", "Residual", "check_mixing", "mixing_coefficients"]

_NO_BATCH = (None,)

Mixing = float | Literal["paper", "optimal"]

COIN_STREAM, SNAPSHOT_STREAM = 2, 3
"""Streams of independent draws beside the mini-batches' (0) and the divergence check's (1)."""


def check_mixing(mixing: Mixing) -> None:
    """Raise :class:`OptionError` unless ``mixing`` is "paper", "optimal" or a finite number."""
    if mixing in ("paper", "optimal"):
        return
    if isinstance(mixing, str) or not math.isfinite(mixing):
        raise OptionError(f"mixing must be 'paper', 'optimal' or a finite number, got {mixing!r}.")


def mixing_coefficients(
    mixing: Mixing, law: Law, us: Sequence[object], size: int, norms2: Sequence[float]
) -> FloatArray:
    r"""Return alpha_j, which multiplies the scaled estimate's term of direction j, shape (q,).

    "paper" is 1/d (Chen & Ma 2025, Theorem 1). "optimal" minimizes the variance at the snapshot: q/(d+q-1) for SPHERE,
    RADEMACHER and COORDINATE, q/(d+q+1) for NORMAL, and the exact projection 1/||u_j||^2 for the orthogonal BLOCK.

    Examples
    --------
    >>> mixing_coefficients("optimal", Law.SPHERE, range(5), 50, [1.0] * 5).round(4).tolist()
    [0.0926, 0.0926, 0.0926, 0.0926, 0.0926]
    """
    q = len(us)
    if mixing == "paper":
        return np.full(q, 1.0 / size)
    if mixing == "optimal":
        if law is Law.BLOCK:
            return 1.0 / np.asarray(norms2, dtype=np.float64)
        return np.full(q, q / (size + q + (1 if law is Law.NORMAL else -1)))
    return np.full(q, float(mixing))


@dataclass(frozen=True, slots=True)
class Plain:
    """One estimate at x on the step's mini-batch.

    Examples
    --------
    >>> from vamo_bbo.estimators import ForwardDifference
    >>> Plain(ForwardDifference(4)).arrays(ProblemInfo(), 10, 1)
    ()
    """

    estimator: Estimator

    @property
    def takes_late(self) -> bool:
        """Whether a difference at an earlier iterate can join a later estimate: of random directions, it can."""
        return isinstance(self.estimator, Difference) and not self.estimator.sweep

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return no array."""
        return ()

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise if the estimator cannot work here."""
        self.estimator.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the cost of one estimate on a mini-batch."""
        values, gradients = self.estimator.cost(info, size)
        return Cost(batch_size * values, batch_size * gradients)

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the one request."""
        batches = _NO_BATCH if ctx.info.n_samples is None else (ctx.mini_batch(),)
        fields = ("x", self.estimator, ctx.anchor("x"), batches, ctx.stream(Tag.MAIN), False)
        return (tuple.__new__(Request, fields),)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the estimate as it is."""
        return got["x"].estimate

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Learn nothing."""


@dataclass(frozen=True, slots=True)
class ControlVariate:
    r"""``v = estimate_I(x) - alpha (control_I(y) - control(y))`` with a snapshot y: SVRG, ZO-SVRG and VAMO.

    Every ``epoch_length`` steps a phase of its own measures the control over all samples at x, which becomes y.

    Parameters
    ----------
    estimate : Estimator
        Measured at x on the mini-batch.
    control : Estimator
        Measured at the snapshot, on all samples and on the mini-batch.
    mixing : float, "paper" or "optimal"
        alpha, see :func:`mixing_coefficients`; 1.0 for a first-order control.
    table : bool
        Keep the control's difference of every sample (n x q float64), so that a step looks the mini-batch up instead of
        evaluating it (no function value in the inner loop), and neither snapshot nor its gradient is stored.
    epoch_length : int, optional
        Steps per snapshot; None means one pass over the data.
    pairing : {"epoch", "step", "none"}
        Which directions the control's mini-batch uses: the snapshot's ("epoch": zero mean over the batch, exactly),
        those of the estimate at x ("step"), or its own ("none").
    loopless : bool, default False
        Draw at every step, with probability 1 / ``epoch_length``, whether x becomes the snapshot, instead of counting.
    snapshot_size : int, optional
        Samples of the control at a snapshot, drawn with replacement; None means all of them.

    Examples
    --------
    >>> svrg = ControlVariate(FirstOrder(), FirstOrder(), mixing=1.0)
    >>> [spec.name for spec in svrg.arrays(ProblemInfo(n_samples=9, gradient="full"), 4, 3)]
    ['snapshot', 'full_gradient']
    """

    estimate: Estimator
    control: Difference | FirstOrder
    mixing: Mixing = "optimal"
    table: bool = False
    epoch_length: int | None = None
    pairing: Literal["epoch", "step", "none"] = "epoch"
    loopless: bool = False
    snapshot_size: int | None = None

    def __post_init__(self) -> None:
        check_mixing(self.mixing)
        if isinstance(self.mixing, str) and (self.pairing != "epoch" or isinstance(self.control, FirstOrder)):
            raise OptionError(
                f"mixing must be a number unless the snapshot's directions are shared, got {self.mixing!r}."
            )
        if self.epoch_length is not None and self.epoch_length < 1:
            raise OptionError(f"epoch_length must be at least 1, got {self.epoch_length!r}.")
        if self.snapshot_size is not None and (self.table or self.snapshot_size < 1):
            raise OptionError(
                f"snapshot_size must be at least 1, and None with a table of all samples, got {self.snapshot_size!r}."
            )

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the snapshot and its gradient; or the table; in any case what the full pass left."""
        if isinstance(self.control, FirstOrder):
            return (ArraySpec("snapshot", (size,)), ArraySpec("full_gradient", (size,)))
        q = self.control.count(size)
        small = (
            ArraySpec("full_differences", (q,), "float64"),
            ArraySpec("control_weights", (q,), "float64"),
        )
        if not self.table:
            return (ArraySpec("snapshot", (size,)), *small)
        assert info.n_samples is not None
        rows = info.n_samples if info.per_sample else -(-info.n_samples // batch_size)
        return (ArraySpec("table", (rows, q), "float64"), *small)

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise without a finite sum, or if an estimator cannot work here."""
        if info.n_samples is None:
            raise CapabilityError(
                "this method needs a FiniteSum objective (per-sample losses); for a plain callable use "
                "method='zo-sgd' or 'spsa'."
            )
        self.estimate.check(info, size)
        self.control.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the estimate and, without a table, the control per step; the control on all samples per snapshot."""
        assert info.n_samples is not None
        n, (values, gradients), control = info.n_samples, self.estimate.cost(info, size), self.control.cost(info, size)
        again = (0, 0) if self.table else control
        return Cost(
            batch_size * (values + again[0]),
            batch_size * (gradients + again[1]),
            (self.snapshot_size or n) * control[0],
            (self.snapshot_size or n) * control[1],
            self.epoch_length or -(-n // batch_size),
        )

    def _refresh(self, ctx: Context) -> bool:
        length = self.epoch_length or ctx.n_batches
        if ctx.phase:
            return False
        if not self.loopless or ctx.step == 0:
            return ctx.step % length == 0
        coin = Batch("iid", ctx.step, COIN_STREAM, 1)
        return int(sampling.indices(coin, ctx.state.seed, length)[0]) == 0

    def _snapshot_batches(self, ctx: Context) -> tuple[Batch | None, ...]:
        """Return the samples of the control at a snapshot, in pieces of at most ``chunk_size``."""
        if self.snapshot_size is None:
            return ctx.full_pass(fixed=self.table and not ctx.info.per_sample)
        sizes = [
            min(ctx.info.chunk_size, self.snapshot_size - a) for a in range(0, self.snapshot_size, ctx.info.chunk_size)
        ]
        return tuple(Batch("iid", ctx.step, SNAPSHOT_STREAM + k, size) for k, size in enumerate(sizes))

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the full pass of the control when a snapshot is due, else the estimates of the step."""
        if self._refresh(ctx):
            batches = self._snapshot_batches(ctx)
            return (Request("full", self.control, ctx.anchor("x"), batches, ctx.stream(Tag.FULL), self.table),)
        batch = (ctx.mini_batch(),)
        at_x = Request("x", self.estimate, ctx.anchor("x"), batch, ctx.stream(Tag.MAIN))
        if self.table:
            return (at_x,)
        return (
            at_x,
            Request("snapshot", self.control, ctx.anchor("snapshot"), batch, self._control_stream(ctx)),
        )

    def _snapshot_stream(self, ctx: Context) -> Stream:
        return Stream(Tag.FULL, int(ctx.scalars["snapshot_step"]), int(ctx.scalars["snapshot_attempt"]))

    def _control_stream(self, ctx: Context) -> Stream:
        if self.pairing == "epoch":
            return self._snapshot_stream(ctx)
        return ctx.stream(Tag.MAIN if self.pairing == "step" else Tag.CONTROL)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Store a full pass and go on, or return the corrected estimate."""
        if "full" in got:
            self._store(ctx, got["full"])
            return None
        estimate = got["x"].estimate
        if isinstance(self.control, FirstOrder):
            weight = float(self.mixing)
            full = Estimate((), ((weight, ctx.arrays["full_gradient"]),))
            return estimate - weight * got["snapshot"].estimate + full
        if self.table:
            return estimate - self._correction(ctx, self._looked_up(ctx))
        snapshot = got["snapshot"]
        if self.pairing == "epoch":
            return estimate - self._correction(ctx, self._aligned(ctx, snapshot))
        alpha = float(self.mixing)
        coefficients = alpha * ctx.arrays["control_weights"] * ctx.arrays["full_differences"]
        return estimate - alpha * snapshot.estimate + self._along(ctx, coefficients)

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Learn nothing."""

    def _store(self, ctx: Context, full: Measured) -> None:
        """Keep what the full pass measured; x becomes the snapshot."""
        arrays = ctx.arrays
        ctx.scalars["snapshot_step"] = ctx.step
        ctx.scalars["snapshot_attempt"] = ctx.state.attempt
        if not self.table:
            ctx.copy_anchor("x", "snapshot")
        if isinstance(self.control, FirstOrder):
            assert full.gradient is not None
            full.estimate.fill(ctx.directions, 0, ctx.size, arrays["full_gradient"])
            return
        if self.table:
            arrays["table"][...] = full.table
            arrays["full_differences"][...] = self._table_mean(ctx)
            arrays["control_weights"][...] = full.weights
            return
        arrays["full_differences"][...] = self._aligned(ctx, full)
        weights = dict(zip(full.directions, full.weights, strict=True))
        arrays["control_weights"][...] = [weights.get(u, 0.0) for u in self._directions(ctx)]

    def _directions(self, ctx: Context) -> list[Direction]:
        """Return the snapshot's directions."""
        assert isinstance(self.control, Difference)
        stream = self._snapshot_stream(ctx)
        known, us = ctx.state.cache.get("snapshot_directions", (None, []))
        if known != stream:
            us = self.control.directions(Request("full", self.control, ctx.anchor("x"), (), stream), ctx)
            ctx.state.cache["snapshot_directions"] = stream, us
        return us  # type: ignore[no-any-return]

    def _aligned(self, ctx: Context, measured: Measured) -> FloatArray:
        """Return the differences in the order of the snapshot's directions, NaN where one failed, shape (q,)."""
        known = dict(zip(measured.directions, measured.differences, strict=True))
        return np.array([known.get(u, math.nan) for u in self._directions(ctx)])

    def _table_mean(self, ctx: Context) -> FloatArray:
        """Return the mean difference over the complete rows S of the table, weighted by the size of fixed batches."""
        table = ctx.arrays["table"]
        complete = ~np.isnan(table[:, 0])
        if ctx.info.per_sample:
            return np.asarray(table[complete].mean(axis=0) if not complete.all() else table.mean(axis=0))
        sizes = np.array([ctx.weight(b) for b in ctx.full_pass(fixed=True)])[complete]
        return np.asarray(sizes @ table[complete] / sizes.sum())

    def _looked_up(self, ctx: Context) -> FloatArray:
        """Return the mini-batch's mean differences from the table.

        Where samples of the batch I are not in the complete rows S, the correction shrinks by |I n S| / |I|, which
        keeps its mean zero; it is returned as ``mean_S + |I n S| / |I| (mean_{I n S} - mean_S)``.
        """
        table, mean, batch = ctx.arrays["table"], ctx.arrays["full_differences"], ctx.mini_batch()
        assert batch is not None
        if not ctx.info.per_sample:
            row = table[batch.b]
            return mean if math.isnan(row[0]) else np.asarray(ctx.weight(batch) * (row - mean) + mean)
        rows = table[ctx.indices(batch)]
        complete = ~np.isnan(rows[:, 0])
        found = np.count_nonzero(complete)
        if found == len(rows):
            # A fixed batch stands for N |I| / n of the data; other batches have weight 1.
            weight = ctx.weight(batch)
            return np.asarray(rows.mean(axis=0) if weight == 1.0 else weight * rows.mean(axis=0))
        if not found:
            return mean
        return np.asarray(mean + found / len(rows) * (rows[complete].mean(axis=0) - mean))

    def _correction(self, ctx: Context, batch_differences: FloatArray) -> Estimate:
        """Return ``sum_j alpha_j w_j (D_Ij - D_j) u_j``; a direction that failed anywhere has no correction."""
        deviations = np.nan_to_num(batch_differences - ctx.arrays["full_differences"], nan=0.0)
        us = self._directions(ctx)
        assert isinstance(self.control, Difference)
        law, norms2 = self.control.law, [1.0]
        if self.mixing == "optimal" and law is Law.BLOCK:
            norms2 = ctx.directions.norms2(us)
        alpha = mixing_coefficients(self.mixing, law, us, ctx.size, norms2)
        return self._along(ctx, alpha * ctx.arrays["control_weights"] * deviations)

    def _along(self, ctx: Context, coefficients: FloatArray) -> Estimate:
        """Return ``sum_j c_j u_j`` over the snapshot's directions."""
        pairs = zip(coefficients.tolist(), self._directions(ctx), strict=True)
        return Estimate(tuple([(c, u) for c, u in pairs if c == c]))  # not NaN


@dataclass(frozen=True, slots=True)
class Recursive:
    """``v_k = estimate_I(x_k) - estimate_I(x_{k-1}) + v_{k-1}``, restarted by a full pass: SARAH and SPIDER.

    Nguyen et al., "SARAH", ICML 2017, Algorithm 1; Fang et al., "SPIDER", NeurIPS 2018. v is kept as one dense array
    (compacted every step), so memory does not grow.

    Examples
    --------
    >>> Recursive(FirstOrder()).arrays(ProblemInfo(n_samples=9, gradient="full"), 4, 3)[0].name
    'previous'
    """

    estimator: Estimator
    epoch_length: int | None = None

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the previous iterate and the running direction."""
        return (ArraySpec("previous", (size,)), ArraySpec("direction", (size,)))

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise without a finite sum, or if the estimator cannot work here."""
        if info.n_samples is None:
            raise CapabilityError("this method needs a FiniteSum objective; for a plain callable use method='zo-sgd'.")
        self.estimator.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return a pair of estimates per step; a restart replaces the pair of its step by a full pass."""
        assert info.n_samples is not None
        (values, gradients), n = self.estimator.cost(info, size), info.n_samples
        pair = 2 * batch_size
        length = self.epoch_length or -(-n // batch_size)
        return Cost(pair * values, pair * gradients, (n - pair) * values, (n - pair) * gradients, length)

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return a full pass when a restart is due, else the pair of estimates on one mini-batch."""
        if ctx.step % (self.epoch_length or ctx.n_batches) == 0:
            return (Request("full", self.estimator, ctx.anchor("x"), ctx.full_pass(), ctx.stream(Tag.FULL)),)
        batch, stream = (ctx.mini_batch(),), ctx.stream(Tag.MAIN)
        return (
            Request("x", self.estimator, ctx.anchor("x"), batch, stream),
            Request("previous", self.estimator, ctx.anchor("previous"), batch, stream),
        )

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the running direction."""
        direction = ctx.arrays["direction"]
        if "full" in got:
            got["full"].estimate.fill(ctx.directions, 0, ctx.size, direction)
        else:
            change = got["x"].estimate - got["previous"].estimate
            ctx.directions.accumulate(change.terms, change.dense, 0, ctx.size, direction)
        ctx.copy_anchor("x", "previous")
        return Estimate((), ((1.0, direction),))

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Learn nothing: ``combine`` kept the direction."""


@dataclass(frozen=True, slots=True)
class Residual:
    r"""``v = b s + sum_j w_j (D_j - b <s, u_j>) u_j``: a biased gradient s as the differences' control variate.

    s is a surrogate's gradient, D_j is measured on the target at x. With ``mixing=1`` the mean of v is the smoothed
    gradient of the target, whatever s is; "optimal" minimizes the error and leaves a bias towards s. b is a regression
    of D on <s, u>, updated after every step (1 at the start), so the present step stays unbiased.

    Parameters
    ----------
    surrogate : Estimator
        Measures s.
    target : Difference
        Measures D_j.
    mixing : float, "paper" or "optimal"
        Factor of the correction.
    memory : float, default 0.9
        Decay of the sums behind b.

    Examples
    --------
    >>> Residual(FirstOrder(), Difference(4)).arrays(ProblemInfo(), 10, 1)
    ()
    """

    surrogate: FirstOrder
    target: Difference
    mixing: Mixing = 1.0
    memory: float = 0.9

    def __post_init__(self) -> None:
        check_mixing(self.mixing)
        if not 0 <= self.memory < 1:
            raise OptionError(f"memory must satisfy 0 <= memory < 1, got {self.memory!r}.")

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return no array."""
        return ()

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise without a surrogate gradient."""
        self.surrogate.check(info, size)
        self.target.check(info, size)

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return the target's differences and the surrogate's gradient."""
        target, surrogate = self.target.cost(info, size), self.surrogate.cost(info, size)
        return Cost(batch_size * (target[0] + surrogate[0]), batch_size * (target[1] + surrogate[1]))

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the surrogate's gradient and the target's differences, both at x on one mini-batch."""
        batches = _NO_BATCH if ctx.info.n_samples is None else (ctx.mini_batch(),)
        at, stream, new = ctx.anchor("x"), ctx.stream(Tag.MAIN), tuple.__new__
        return (
            new(Request, ("target", self.target, at, batches, stream, False)),
            new(Request, ("surrogate", self.surrogate, at, batches, stream, False)),
        )

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the corrected surrogate gradient; the regression of D on <s, u> is for later steps only."""
        target, s = got["target"], got["surrogate"].gradient
        assert s is not None
        us, scalars = target.directions, ctx.scalars
        share = scalars.get("surrogate_weight", 1.0)
        along = ctx.project(s, us).tolist()
        if self.target.law is Law.SPHERE:
            along = [p * scale for p, scale in zip(along, self.target.scales(us, ctx), strict=True)]
        weights = target.weights
        if self.mixing != 1.0:
            norms2 = ctx.directions.norms2(us) if self.mixing == "optimal" else [1.0]
            alphas = mixing_coefficients(self.mixing, self.target.law, us, ctx.size, norms2).tolist()
            weights = [a * w for a, w in zip(alphas, weights, strict=True)]
        terms: list[tuple[float, AnyDirection]] = []
        products = squares = 0.0
        for w, d, p, u in zip(weights, target.differences, along, us, strict=True):
            terms.append((w * (d - share * p), u))
            products += d * p
            squares += p * p
        self._learn(scalars, products, squares)
        return Estimate(tuple(terms), ((share, s),))

    def _learn(self, scalars: dict[str, float], products: float, squares: float) -> None:
        """Add a step's sums to the regression, unless an overflow would stay in them for good."""
        if not math.isfinite(products + squares):
            return
        sum_ds = scalars["sum_ds"] = self.memory * scalars.get("sum_ds", 0.0) + products
        sum_ss = scalars["sum_ss"] = self.memory * scalars.get("sum_ss", 0.0) + squares
        if sum_ss > 0:
            scalars["surrogate_weight"] = sum_ds / sum_ss

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Learn nothing more: ``combine`` has the projections at hand."""
