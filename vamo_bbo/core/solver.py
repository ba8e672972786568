"""The seams of the core: state, context and the protocols of solver, estimator, recipe and rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from vamo_bbo import backends
from vamo_bbo._typing import AnyDirection, Array, FloatArray, IndexArray
from vamo_bbo.backends import Directions
from vamo_bbo.core import sampling
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.late import Late
from vamo_bbo.core.types import AnchorRef, Answer, Batch, Probe, ProbeId, ProblemInfo

__all__ = [
    "ArraySpec",
    "Context",
    "Cost",
    "Estimator",
    "Recipe",
    "Request",
    "Rule",
    "Solver",
    "State",
    "Status",
    "Stream",
    "directions_of",
]


class Status(NamedTuple):
    """Why a solver wants to stop.

    Attributes
    ----------
    code : int
        The result's ``status``.
    success : bool
        Whether this ending counts as convergence.
    message : str
        One sentence for the user.
    """

    code: int
    success: bool
    message: str


@dataclass(slots=True)
class State:
    """All that a solver knows between two calls: numbers and arrays only, no callable, generator, lock or path.

    It pickles at any moment, also in the middle of a round; every random number is a function of ``seed`` and a
    handle, so nothing else is needed to go on exactly.

    Attributes
    ----------
    seed : int
        64-bit key of the run.
    backend : str
        Name of the backend that holds the arrays.
    info : ProblemInfo
        What the objective can do.
    step, phase, attempt : int
        The open round: step of the algorithm, phase within the step, attempt after failures.
    arrays : dict of str to array
        Named arrays; ``arrays["x"]`` is the iterate, shape (d,).
    scalars : dict of str to float
        Named scalars.
    versions : dict of str to int
        Version of every array that probes may refer to; counts changes.
    inbox : dict of ProbeId to Answer
        Answers of the open round.
    undo : tuple of (float, direction)
        The last update of a run too large for a copy of its last good point.
    late : dict of ProbeId to Late
        Evaluations that closed rounds did not wait for, and their values that have come since.
    cache : dict
        Derived objects (bound directions, the plan of the open round). Not part of the state: it is not pickled.
    """

    seed: int
    backend: str
    info: ProblemInfo
    step: int = 0
    phase: int = 0
    attempt: int = 0
    arrays: dict[str, Array] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    inbox: dict[ProbeId, Answer] = field(default_factory=dict)
    undo: tuple[tuple[float, AnyDirection], ...] = ()
    late: dict[ProbeId, Late] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> tuple[Any, ...]:
        return (
            self.seed,
            self.backend,
            self.info,
            self.step,
            self.phase,
            self.attempt,
            self.arrays,
            self.scalars,
            self.versions,
            self.inbox,
            self.undo,
            self.late,
        )

    def __setstate__(self, values: tuple[Any, ...]) -> None:
        (
            self.seed,
            self.backend,
            self.info,
            self.step,
            self.phase,
            self.attempt,
            self.arrays,
            self.scalars,
            self.versions,
            self.inbox,
            self.undo,
            self.late,
        ) = values
        self.cache = {}

    def anchor(self, name: str) -> AnchorRef:
        """Return the handle of the present version of array ``name``."""
        return tuple.__new__(AnchorRef, (name, self.versions[name]))


def directions_of(state: State) -> Directions:
    """Return the directions of the state's backend, bound to its seed, dimension and arrays."""
    bound: Directions | None = state.cache.get("directions")
    if bound is None:
        backend = backends.get(state.backend)
        bound = backend.bind(state.seed, state.arrays["x"].size, state.arrays)
        state.cache["directions"] = bound
    return bound


class Stream(NamedTuple):
    """Which directions a request draws: two requests with equal streams share their directions."""

    tag: int
    step: int
    attempt: int = 0


class ArraySpec(NamedTuple):
    """An array that a recipe or a rule keeps in the state.

    Attributes
    ----------
    name : str
        Key in ``State.arrays``.
    shape : tuple of int
        Shape.
    dtype : str
        "x" for the dtype of the iterate, else a NumPy dtype name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "x"


class Cost(NamedTuple):
    """What a recipe spends, in sample values and sample gradients (calls, for an objective that is not a sum).

    Attributes
    ----------
    values, gradients : int
        Per step.
    snapshot_values, snapshot_gradients : int
        Once per ``epoch_length`` steps, on top.
    epoch_length : int
        Steps between snapshots; 0 for a recipe without.
    """

    values: int
    gradients: int
    snapshot_values: int = 0
    snapshot_gradients: int = 0
    epoch_length: int = 0


class Request(NamedTuple):
    """An estimate that a recipe asks for.

    Attributes
    ----------
    name : str
        Key under which ``combine`` finds the measurement.
    estimator : Estimator
        How it is measured.
    at : AnchorRef
        Where.
    batches : tuple of Batch or None
        On which samples: a full pass is several ranges. ``(None,)`` for an objective that is not a sum.
    stream : Stream
        Which random directions.
    per_sample : bool
        Keep the differences of every sample (the table) rather than their mean.
    """

    name: str
    estimator: Estimator
    at: AnchorRef
    batches: tuple[Batch | None, ...]
    stream: Stream
    per_sample: bool = False


class Context:
    """What recipes, estimators and rules see of a state.

    ``plan`` and ``scalars`` only read. ``combine`` and ``observe`` may write the arrays and scalars that the recipe
    declared; they copy anchors with :meth:`copy_anchor`, which counts versions.

    Parameters
    ----------
    state : State
        The state.
    batch_size : int
        Mini-batch size of a finite sum.
    batch_kind : {"epoch", "fixed", "iid"}
        How mini-batches are drawn.
    """

    __slots__ = ("batch_kind", "batch_size", "directions", "info", "room", "size", "state")

    def __init__(self, state: State, batch_size: int = 1, batch_kind: str = "epoch") -> None:
        self.state = state
        self.info = state.info
        self.directions = directions_of(state)
        self.batch_size = batch_size
        self.batch_kind = batch_kind
        self.size = int(state.arrays["x"].size)
        """Dimension d."""
        self.room = math.inf
        """Half the smallest width of the bounds: the longest perturbation of a coordinate."""
        if self.info.lower is not None and self.info.upper is not None:
            self.room = 0.5 * float((self.info.upper - self.info.lower).min())

    @property
    def step(self) -> int:
        """Step of the algorithm."""
        return self.state.step

    @property
    def phase(self) -> int:
        """Phase within the step."""
        return self.state.phase

    @property
    def arrays(self) -> dict[str, Array]:
        """The named arrays."""
        return self.state.arrays

    @property
    def scalars(self) -> dict[str, float]:
        """The named scalars."""
        return self.state.scalars

    def anchor(self, name: str) -> AnchorRef:
        """Return the handle of the present version of array ``name``."""
        return tuple.__new__(AnchorRef, (name, self.state.versions[name]))

    def copy_anchor(self, source: str, target: str) -> None:
        """Copy point ``source`` to point ``target`` (a new version of ``target``)."""
        self.state.arrays[target][...] = self.state.arrays[source]
        self.state.versions[target] = self.state.versions.get(target, 0) + 1

    def stream(self, tag: int, step: int | None = None) -> Stream:
        """Return the stream of this step (default) and attempt, or of an earlier step."""
        state = self.state
        return tuple.__new__(Stream, (tag, state.step if step is None else step, state.attempt))

    def indices(self, batch: Batch) -> IndexArray:
        """Return the sample indices of ``batch``."""
        n = self.info.n_samples
        assert n is not None
        return sampling.indices(batch, self.state.seed, n)

    @property
    def n_batches(self) -> int:
        """Mini-batches per pass over the data (1 for an objective that is not a sum)."""
        n = self.info.n_samples
        return 1 if n is None else sampling.n_batches(n, self.batch_size)

    def mini_batch(self) -> Batch | None:
        """Return the mini-batch of this step; None for an objective that is not a sum."""
        n = self.info.n_samples
        if n is None:
            return None
        return sampling.batch_of_step(self.batch_kind, self.state.seed, n, self.batch_size, self.state.step)

    def full_pass(self, *, fixed: bool = False) -> tuple[Batch | None, ...]:
        """Return the batches of a pass over all samples: ranges of at most ``chunk_size``, or the fixed partition."""
        n = self.info.n_samples
        if n is None:
            return (None,)
        if fixed:
            return tuple(Batch("fixed", 0, b, self.batch_size) for b in range(self.n_batches))
        chunk = self.info.chunk_size
        return tuple(Batch("range", a, min(a + chunk, n), chunk) for a in range(0, n, chunk))

    def weight(self, batch: Batch | None) -> float:
        """Return the factor that makes the mean over ``batch`` unbiased: ``N |I_k| / n`` for a fixed batch, else 1."""
        n = self.info.n_samples
        if batch is None or n is None or batch.kind != "fixed":
            return 1.0
        lo, hi = sampling.bounds(n, batch.size, batch.b)
        return sampling.n_batches(n, batch.size) * (hi - lo) / n

    def project(self, g: Array, us: Sequence[AnyDirection]) -> FloatArray:
        """Return ``<g, u_j>`` for raw directions u_j, shape (len(us),)."""
        return self.directions.project(g, us)


class Solver(Protocol):
    """An optimization algorithm that never calls the objective.

    ``ask`` is a pure, idempotent query; only ``tell`` changes the state, and it consumes it: O(d) buffers are
    updated in place, so the caller goes on with the returned state.
    """

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state.

        Parameters
        ----------
        x0 : (d,) float32 or float64 array
            Start, in the solver's (scaled) coordinates; copied, never written.
        seed : int
            64-bit key.
        backend : str
            Name of the backend.
        info : ProblemInfo
            Capabilities and bounds of the objective.
        horizon : float, optional
            Budget in sample values (a gradient counts ``grad_cost``), for schedules that need the end.

        Raises
        ------
        CapabilityError
            The objective lacks what the algorithm needs.
        """
        ...

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the open probes: those of the current round that have no answer yet."""
        ...

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers in any order and in part; unknown, stale and repeated ids are ignored and counted.

        An answer with the error :data:`~vamo_bbo.core.late.LATE` says that the round goes on without it. A solver with
        a method ``takes_late(info)`` that returns True is told its value in a later round.
        """
        ...

    def status(self, state: State) -> Status | None:
        """Return why the solver wants to stop, or None."""
        ...

    def recommend(self, state: State) -> Array:
        """Return the point the solver recommends, shape (d,), in its own coordinates (not a copy)."""
        ...


class Estimator(Protocol):
    """A way to measure a gradient: probes out, a symbolic estimate back."""

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise :class:`CapabilityError` if the objective lacks what the estimator needs."""
        ...

    def cost(self, info: ProblemInfo, size: int) -> tuple[int, int]:
        """Return the values and gradients of one estimate, per sample of its batch."""
        ...

    def plan(self, request: Request, ctx: Context, first: int) -> list[Probe]:
        """Return the probes of ``request``; their ids count from ``first`` within the round."""
        ...

    def reduce(
        self, request: Request, ctx: Context, probes: Sequence[Probe], answers: Sequence[Answer]
    ) -> Measured | None:
        """Return the measurement, or None if it failed as a whole.

        A failed leg of a difference removes its direction and renormalizes the rest.
        """
        ...


class Recipe(Protocol):
    """Which estimates a step needs, where, on which samples, and how they are combined."""

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the arrays that the recipe keeps in the state: its declared memory."""
        ...

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise :class:`CapabilityError` if the objective lacks what the recipe needs."""
        ...

    def cost(self, info: ProblemInfo, size: int, batch_size: int) -> Cost:
        """Return what a step and a snapshot spend (for batches of exactly ``batch_size`` samples)."""
        ...

    def plan(self, ctx: Context) -> tuple[Request, ...]:
        """Return the requests of the present phase."""
        ...

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Return the step's estimate, or None when the phase only prepared the state and another follows."""
        ...

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Update sketches and adaptive coefficients, for later steps only (unbiasedness).

        A recipe that knows that it has converged sets ``ctx.scalars["converged"]``, which ends the run.
        """
        ...


class Rule(Protocol):
    """How an estimate moves the iterate, one tile at a time.

    A linear rule is ``x <- x - step_size * v``: it is fused with the regeneration of the directions, and ``update`` is
    not called.
    """

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of its O(d) arrays (momentum, second moments)."""
        ...

    @property
    def linear(self) -> bool:
        """Whether a step is ``x <- x - learning_rate * v``."""
        ...

    @property
    def reductions(self) -> tuple[str, ...]:
        """Reductions of the estimate that ``scalars`` reads: ``"rms"`` or none (each costs a pass)."""
        ...

    @property
    def learning_rate(self) -> float | None:
        """The step size that was given, or None.

        Without one, ``scalars`` may read a calibrated ``ctx.scalars["learning_rate"]``, and steps are judged by what
        they did to the value.
        """
        ...

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the scalars of this step; ``"learning_rate"`` is the step size."""
        ...

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Update tile ``x`` and the slot tiles in place from the estimate's tile ``g``, elementwise."""
        ...
