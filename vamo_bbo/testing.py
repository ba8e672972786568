"""The contract of a solver as a public test suite: ``check_solver(my_solver())``.

Every check has a name and a reason; a solver may be excused from one by name.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from vamo_bbo import backends
from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array
from vamo_bbo.core import sampling
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import Solver, State
from vamo_bbo.core.types import Answer, Probe, ProblemInfo

__all__ = ["CHECKS", "check_solver"]

_N, _D, _SEED = 24, 7, 2**40 + 3


class _Objective:
    """A well-conditioned least-squares sum: n = 24, d = 7, minimum near (1, ..., 1)."""

    def __init__(self) -> None:
        rows = np.arange(_N * _D, dtype=np.float64).reshape(_N, _D)
        self.a = np.sin(rows * 1.7 + 0.3) + np.eye(_N, _D)
        self.y = self.a.sum(axis=1) + 0.1 * np.cos(np.arange(_N))

    def losses(self, x: Array, i: Array) -> Array:
        residual = self.a[i] @ x - self.y[i]
        return np.asarray(residual * residual)

    def grad(self, x: Array, i: Array) -> Array:
        return np.asarray(2.0 * self.a[i].T @ (self.a[i] @ x - self.y[i]) / len(i)).astype(x.dtype)

    def value(self, x: Array) -> float:
        return float(np.mean(self.losses(x, np.arange(_N))))

    def answer(self, state: State, probe: Probe) -> Answer:
        x = materialize(state, probe, np.empty_like(state.arrays["x"]))
        n = state.info.n_samples
        i = np.arange(_N) if probe.batch is None or n is None else sampling.indices(probe.batch, state.seed, n)
        values = self.losses(x, i)
        gradient = self.grad(x, i) if probe.want in ("gradient", "both") else None
        per_sample = values if probe.want == "values" else None
        return Answer(probe.id, float(np.mean(values)), per_sample, gradient, len(i) if n is not None else 1)


_OBJECTIVE = _Objective()
_INFOS = {
    "finite sum": ProblemInfo(n_samples=_N, gradient="full"),
    "finite sum, values only": ProblemInfo(n_samples=_N),
    "callable with gradient": ProblemInfo(gradient="full"),
    "callable": ProblemInfo(),
}
_BOXED = {"callable in a box": ProblemInfo(lower=np.full(_D, -1.0), upper=np.full(_D, 3.0))}
"""For solvers that take none of these."""


def _accepted(solver: Solver, backend: str) -> list[ProblemInfo]:
    """Return the kinds of problems that the solver takes."""
    infos: list[ProblemInfo] = []
    for kinds in (_INFOS, _BOXED):
        for info in kinds.values() if not infos else ():
            with contextlib.suppress(CapabilityError):
                solver.init(np.zeros(_D), seed=_SEED, backend=backend, info=info)
                infos.append(info)
    assert infos, "the solver accepts none of the problems: finite sum or callable, with or without a gradient"
    return infos


def _start(solver: Solver, backend: str, info: ProblemInfo, x0: Array | None = None) -> State:
    return solver.init(np.zeros(_D) if x0 is None else x0, seed=_SEED, backend=backend, info=info)


def _round(solver: Solver, state: State) -> tuple[State, int]:
    answers = [_OBJECTIVE.answer(state, probe) for probe in solver.ask(state)]
    return solver.tell(state, answers), len(answers)


def _frozen(state: State) -> bytes:
    """Return the state's content, without the count of ignored answers, as comparable bytes."""
    values = list(state.__getstate__())
    scalars = next(k for k, v in enumerate(values) if v is state.scalars)
    values[scalars] = sorted((k, v) for k, v in state.scalars.items() if k != "ignored")
    inbox = next(k for k, v in enumerate(values) if v is state.inbox)
    values[inbox] = sorted((k, repr(v)) for k, v in state.inbox.items())
    # Through a copy: pickle notices shared objects, which equal states may share differently.
    return pickle.dumps(pickle.loads(pickle.dumps([_plain(v) for v in values])))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((k, _plain(v)) for k, v in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


def check_ask_is_pure(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """Asking twice gives the same probes and changes nothing: a driver may ask whenever it likes."""
    state = _start(solver, backend, info)
    for _ in range(6):
        before = _frozen(state)
        first, second = solver.ask(state), solver.ask(state)
        assert repr(first) == repr(second), "ask returned different probes the second time"
        assert _frozen(state) == before, "ask changed the state"
        assert len({p.id for p in first}) == len(first), "two open probes share an id"
        state, _ = _round(solver, state)


def check_order_does_not_matter(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """Answers told one by one, backwards, give the state of a whole round: workers finish in any order."""
    whole, single = _start(solver, backend, info), _start(solver, backend, info)
    for _ in range(8):
        answers = [_OBJECTIVE.answer(single, probe) for probe in solver.ask(single)]
        for answer in reversed(answers):
            single = solver.tell(single, [answer])
        whole, _ = _round(solver, whole)
        assert _frozen(whole) == _frozen(single), "the order of answers changed the state"


def check_repeated_and_stale_answers_are_ignored(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """Repeated, late and foreign answers change nothing: networks repeat themselves."""
    clean, noisy = _start(solver, backend, info), _start(solver, backend, info)
    stale: list[Answer] = []
    for _ in range(6):
        answers = [_OBJECTIVE.answer(noisy, probe) for probe in solver.ask(noisy)]
        half = len(answers) // 2
        for part in (stale, answers[:half], answers[:half], [Answer((9**9, 0, 0, 0), 1.0)], answers[half:]):
            noisy = solver.tell(noisy, part)
        stale = answers
        clean, _ = _round(solver, clean)
        assert _frozen(clean) == _frozen(noisy), "a repeated, stale or foreign answer changed the state"


def check_pickles_after_every_answer(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """A run interrupted after any answer and resumed from a pickle is the uninterrupted run, bit for bit."""
    straight, resumed = _start(solver, backend, info), _start(solver, backend, info)
    for _ in range(6):
        for answer in [_OBJECTIVE.answer(resumed, probe) for probe in solver.ask(resumed)]:
            resumed = solver.tell(pickle.loads(pickle.dumps(resumed)), [answer])
        straight, _ = _round(solver, straight)
        assert _frozen(straight) == _frozen(resumed), "a pickle round trip changed the run"


def check_x0_is_untouched(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """The caller's x0 is neither written nor kept."""
    x0 = np.full(_D, 0.5)
    x0.flags.writeable = False
    state = _start(solver, backend, info, x0)
    for name, array in state.arrays.items():
        assert not np.shares_memory(array, x0), f"state array {name!r} shares memory with x0"
    for _ in range(4):
        state, _ = _round(solver, state)


def check_tiles_do_not_matter(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """Any tile length gives the same bits: results do not depend on how a pass over d is cut."""
    instance = backends.get(backend)
    runs = []
    for tile in (instance.tile, 5):
        with _attribute(instance, "tile", tile):
            state = _start(solver, backend, info)
            for _ in range(6):
                state, _ = _round(solver, state)
            runs.append(_frozen(state))
    assert runs[0] == runs[1], "the tile length changed the run"


def check_threads_do_not_matter(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """Any number of threads gives the same bits."""
    instance = backends.get(backend)
    if not hasattr(instance, "threads"):
        return
    runs = []
    for threads in (1, 3):
        with _attribute(instance, "threads", threads):
            state = _start(solver, backend, info)
            for _ in range(6):
                state, _ = _round(solver, state)
            runs.append(_frozen(state))
    assert runs[0] == runs[1], "the number of threads changed the run"


@contextlib.contextmanager
def _attribute(target: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)


def check_declared_memory_is_held_memory(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """A composite holds the arrays it declares and nothing else of size d."""
    declare = getattr(solver, "arrays", None)
    if declare is None:
        return
    declared = {spec.name: (spec.shape, spec.dtype) for spec in declare(info, _D)}
    state = _start(solver, backend, info)
    for _ in range(6):
        state, _ = _round(solver, state)
        held = {name: array.shape for name, array in state.arrays.items()}
        assert held == {name: shape for name, (shape, _) in declared.items()}, f"declared {declared}, held {held}"
        assert not state.inbox, "a closed round left answers behind"


def check_declared_cost_is_counted_cost(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """What a composite says a step costs is what it asks for."""
    declare = getattr(solver, "cost", None)
    if declare is None:
        return
    cost, batches = declare(info, _D), max(1, _N // 4)
    epochs = 2 * (cost.epoch_length or batches)
    state = _start(solver, backend, info)
    while state.phase < 0:  # calibration
        state, _ = _round(solver, state)
    values = gradients = 0
    while state.step < epochs:
        probes = solver.ask(state)
        answers = [_OBJECTIVE.answer(state, probe) for probe in probes]
        if state.attempt == 0:  # a round repeated after a failure or a harmful step comes on top of the declared cost
            for probe, answer in zip(probes, answers, strict=True):
                values += answer.n_samples * (probe.want != "gradient")
                gradients += answer.n_samples * (probe.want in ("gradient", "both"))
        state = solver.tell(state, answers)
    snapshots = epochs // cost.epoch_length if cost.epoch_length else 0
    # Batches of a partition differ in size by at most one: compare with the declared cost of exact batches.
    tolerance = 0 if info.n_samples is None else epochs * max(1, cost.values + cost.gradients)
    for name, counted, declared in (
        ("values", values, epochs * cost.values + snapshots * cost.snapshot_values),
        ("gradients", gradients, epochs * cost.gradients + snapshots * cost.snapshot_gradients),
    ):
        assert abs(counted - declared) <= tolerance, f"{counted} {name} counted, {declared} declared"
        assert (counted == 0) == (declared == 0), f"{counted} {name} counted, {declared} declared"


def check_survives_failures(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """Failing evaluations never raise out of the solver and never leave a point that is not finite."""
    state, count = _start(solver, backend, info), 0
    for _ in range(40):
        answers = []
        for probe in solver.ask(state):
            count += 1
            good = _OBJECTIVE.answer(state, probe)
            answers.append(Answer(probe.id, error="ValueError: planted") if count % 7 == 3 else good)
        state = solver.tell(state, answers)
        assert np.isfinite(solver.recommend(state)).all(), "the recommendation is not finite"


def check_stays_inside_bounds(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """No point is evaluated outside the bounds, perturbations included; or the solver refuses bounds in words."""
    lower, upper = np.full(_D, -0.25), np.full(_D, 0.25)
    bounded = ProblemInfo(n_samples=info.n_samples, gradient=info.gradient, lower=lower, upper=upper)
    try:
        state = _start(solver, backend, bounded)
    except CapabilityError:
        return
    for _ in range(20):
        for probe in solver.ask(state):
            x = materialize(state, probe, np.empty_like(state.arrays["x"]))
            assert (lower <= x).all(), f"a probe left the bounds: {x}"
            assert (x <= upper).all(), f"a probe left the bounds: {x}"
        state, _ = _round(solver, state)


def check_decreases_a_quadratic(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """A thousand evaluations improve on the start of an easy problem."""
    state, count = _start(solver, backend, info), 0
    while count < 1000:
        state, asked = _round(solver, state)
        assert asked, "no open probe although no answer is missing"
        count += asked
    start, end = _OBJECTIVE.value(np.zeros(_D)), _OBJECTIVE.value(np.asarray(solver.recommend(state)))
    assert end < 0.9 * start, f"f went from {start} to {end} in {count} evaluations"


def check_probes_are_small(solver: Solver, backend: str, info: ProblemInfo) -> None:
    """A probe that names its point is a few hundred bytes, whatever the dimension."""
    state = _start(solver, backend, info)
    for _ in range(3):
        for probe in solver.ask(state):
            if probe.point is None:
                assert len(pickle.dumps(tuple(probe))) < 600, f"a probe is too large: {probe}"
        state, _ = _round(solver, state)


CHECKS: tuple[Callable[[Solver, str, ProblemInfo], None], ...] = (
    check_ask_is_pure,
    check_order_does_not_matter,
    check_repeated_and_stale_answers_are_ignored,
    check_pickles_after_every_answer,
    check_x0_is_untouched,
    check_tiles_do_not_matter,
    check_threads_do_not_matter,
    check_declared_memory_is_held_memory,
    check_declared_cost_is_counted_cost,
    check_survives_failures,
    check_stays_inside_bounds,
    check_decreases_a_quadratic,
    check_probes_are_small,
)


def check_solver(
    solver: Solver, *, backend: str = "numpy", excused: Collection[str] = (), checks: Sequence[Any] = CHECKS
) -> None:
    """Run the contract on a solver, over every kind of problem that it accepts.

    Parameters
    ----------
    solver : Solver
        A configured solver, such as ``vb.zo_sgd()`` or your own composition.
    backend : {"numpy", "numba"}
        Backend that holds the arrays.
    excused : collection of str
        Names of checks to leave out, such as ``"check_decreases_a_quadratic"``.
    checks : sequence of callables
        The checks; :data:`CHECKS` by default.

    Raises
    ------
    AssertionError
        A check failed; the message says which one, on what kind of problem, and why.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> check_solver(vb.zo_sgd())
    """
    for info in _accepted(solver, backend):
        kind = next(name for name, known in (_INFOS | _BOXED).items() if known is info)
        for check in checks:
            if check.__name__ in excused:
                continue
            try:
                check(solver, backend, info)
            except AssertionError as error:
                raise AssertionError(f"{check.__name__} ({kind}, backend {backend!r}): {error}") from error
