"""Everything that crosses a process boundary or enters a journal: small named tuples, never O(d) vectors.

A solver names a point by an anchor (a state array and its version) and a direction; whoever evaluates it
materializes the point. Only gradients and explicit points of small problems carry arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from vamo_bbo._typing import AnyDirection, Array, Direction, Law, StoredDirection, Tag

if TYPE_CHECKING:
    from vamo_bbo.feasible import FeasibleSet

__all__ = [
    "AnchorRef",
    "Answer",
    "AnyDirection",
    "Batch",
    "Direction",
    "Law",
    "Probe",
    "ProbeId",
    "ProblemInfo",
    "StoredDirection",
    "Tag",
    "Want",
]

ProbeId: TypeAlias = tuple[int, int, int, int]
"""(step, phase, attempt, index): the identity of an evaluation within a run."""

Want: TypeAlias = Literal["value", "values", "gradient", "both"]
"""What a probe asks for: the (batch mean) value, per-sample values, the (batch mean) gradient, value and
gradient."""


class Batch(NamedTuple):
    """The name of a set of samples of a finite sum; :func:`vamo_bbo.core.sampling.indices` gives the samples.

    Attributes
    ----------
    kind : {"epoch", "iid", "range", "fixed"}
        "epoch": batch ``b`` of the reshuffled epoch ``a``; "iid": ``size`` samples drawn with replacement for
        step ``a`` (stream ``b``); "range": the samples ``a <= i < b``; "fixed": batch ``b`` of the partition drawn
        once.
    a, b : int
        See ``kind``.
    size : int
        Nominal batch size; the batches of a partition differ in size by at most one.
    """

    kind: Literal["epoch", "iid", "range", "fixed"]
    a: int
    b: int
    size: int


class AnchorRef(NamedTuple):
    """A version of a named state array that holds a point ("x", "snapshot", "previous", ...)."""

    name: str
    version: int


class Probe(NamedTuple):
    """A request to evaluate the objective once.

    The point is ``anchor + h * u`` with ``u`` the raw elements of ``direction``. With bounds it is
    ``clip(anchor, lower + |h|, upper - |h|) + h * u``, so that the base point (``direction`` None, same
    ``h``) and all perturbed points share one center and none is infeasible.

    Attributes
    ----------
    id : tuple of 4 ints
        (step, phase, attempt, index).
    anchor : AnchorRef
        The point the probe starts from.
    direction : Direction, StoredDirection or None
        None asks for the anchor itself.
    h : float
        Signed step along the raw direction. For the base of a difference: the margin kept from the bounds.
    batch : Batch or None
        The samples of a finite sum; None for all, or for an objective that is not a sum.
    want : {"value", "values", "gradient", "both"}
        What is asked for.
    noise : int or None
        Common-random-number key: probes with equal keys share the objective's noise.
    point : (d,) array or None
        Explicit point in the solver's (scaled) coordinates, for small-d and population solvers; wins over
        anchor and direction.
    """

    id: ProbeId
    anchor: AnchorRef
    direction: AnyDirection | None = None
    h: float = 0.0
    batch: Batch | None = None
    want: Want = "value"
    noise: int | None = None
    point: Array | None = None


class Answer(NamedTuple):
    """What came back for a probe.

    Attributes
    ----------
    id : tuple of 4 ints
        The probe's id.
    value : float
        Mean value over the batch (NaN if not asked for).
    values : (n_samples,) float64 array or None
        Per-sample values, in the order of the batch's indices; NaN where a sample failed.
    grad : (d,) array or None
        Mean gradient in the solver's (scaled) coordinates.
    n_samples : int
        Samples that were evaluated: 1 for an objective that is not a sum.
    error : str or None
        One line naming the failure; None for success. A failed answer has no usable numbers.
    elapsed : float
        Seconds the evaluation took.
    worker : str
        Who evaluated.
    log : str or None
        Traceback, or captured output of a failed evaluation.
    """

    id: ProbeId
    value: float = math.nan
    values: Array | None = None
    grad: Array | None = None
    n_samples: int = 1
    error: str | None = None
    elapsed: float = 0.0
    worker: str = ""
    log: str | None = None


@dataclass(frozen=True, slots=True)
class ProblemInfo:
    """What a solver may know about the problem: capabilities, bounds and constraints, never the objective.

    Attributes
    ----------
    n_samples : int or None
        Number of terms of a finite sum; None for a plain objective.
    gradient : {"none", "partial", "full"}
        Whether gradients can be asked for. "partial": some coordinates are unknown (state array "unknown").
    per_sample : bool
        Whether a finite sum returns per-sample losses rather than batch means.
    lower, upper : (d,) arrays or None
        Bounds in the solver's (scaled) coordinates; both or neither.
    grad_cost : float
        Price of a sample gradient in sample values.
    noisy : bool
        Whether two evaluations of one point may differ.
    chunk_size : int
        Most samples that one call of a finite sum is given; a full pass is cut into such ranges.
    unknown : (d,) uint8 array or None
        1 where a partial gradient does not know the coordinate.
    levels : (d,) int64 array or None
        Coordinates of a :class:`~vamo_bbo.space.Space` that are not real, in the unit box: n > 0 for n
        ordered levels at (k + 1/2) / n, -n for n unordered options, 0 for a real coordinate. None if all are
        real.
    known_points : (k, d) array or None
        Points whose values were known before the run, in the solver's coordinates; the start is the best of them.
    known_values : (k,) array or None
        Their values.
    device : bool
        Whether points and gradients are arrays on a CUDA device.
    common_noise : bool
        Whether the evaluations of a round share their random numbers, so that noise cancels in their differences.
    feasible : FeasibleSet or None
        Bounds and constraints in the solver's coordinates, for solvers that meet them themselves.
    """

    n_samples: int | None = None
    gradient: Literal["none", "partial", "full"] = "none"
    per_sample: bool = True
    lower: Array | None = None
    upper: Array | None = None
    grad_cost: float = 3.0
    noisy: bool = False
    chunk_size: int = 65536
    unknown: Array | None = None
    levels: Array | None = None
    known_points: Array | None = None
    known_values: Array | None = None
    device: bool = False
    common_noise: bool = False
    feasible: FeasibleSet | None = None

    def n_unknown(self, size: int) -> int:
        """Return how many of the ``size`` coordinates of the gradient are unknown.

        Examples
        --------
        >>> ProblemInfo().n_unknown(5), ProblemInfo(gradient="full").n_unknown(5)
        (5, 0)
        """
        if self.gradient == "full":
            return 0
        return size if self.unknown is None else int(self.unknown.sum())
