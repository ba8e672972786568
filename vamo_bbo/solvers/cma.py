"""CMA-ES and its relatives behind the solver protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.late import LATE, STALEST, Late, given_up, take_late
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo
from vamo_bbo.solvers import _cmaes, _evolution, noise_handling
from vamo_bbo.solvers._variant import Plan, generator_of, plan_of, to_x

__all__ = ["EvolutionStrategy", "cma"]

_MAX_FAILED_ATTEMPTS = 20


def cma(
    sigma: float | None = None,
    *,
    population_size: int | None = None,
    separable: bool | None = None,
    restarts: int = 0,
    restart_strategy: Literal["ipop", "bipop"] = "ipop",
    noise_handling: bool | None = None,
    adapt_learning_rate: bool = False,
) -> EvolutionStrategy:
    """Evolution strategy with covariance matrix adaptation, for small d, mixed types and rugged objectives.

    Real coordinates: CMA-ES, or its separable variant in many dimensions; Integer parameters: CMA-ES with
    margin; Choice parameters: CatCMA with margin. The latter two are those of the PyPI package ``cmaes`` (extra
    ``cma``).

    Parameters
    ----------
    sigma : float > 0, optional
        First standard deviation, in units of ``x_scale``, or of the width where both bounds are finite.
        Default 0.5 for unbounded coordinates and 0.25 for bounded ones.
    population_size : int >= 4, optional
        Points per generation. Default ``4 + floor(3 log d)``.
    separable : bool, optional
        Adapt only the diagonal of the covariance, O(d) per point. Default: for d > 200.
    restarts : int >= 0, default 0
        After convergence start again, at most this many times: for multimodal objectives. The budget of the run ends
        them earlier.
    restart_strategy : {"ipop", "bipop"}
        "ipop": each start has twice the population of the one before. "bipop": between such starts there are some with
        a small population and a small first step, until both kinds have used as many values.
    noise_handling : bool, optional
        Measure how much noise changes the ranking of a generation and evaluate each point more than once while it does.
        Default: where the objective is ``noisy`` and all coordinates are real.

    adapt_learning_rate : bool, default False
        Damp the updates of mean and covariance to the signal that is in them (LRA-CMA-ES), real coordinates only: for
        noise that hides a bowl or a valley, with ``noise_handling=False``. Slower without noise, and on many minima.

    Returns
    -------
    EvolutionStrategy
        The solver.

    Raises
    ------
    OptionError
        An option has a value that is not allowed.

    Notes
    -----
    One step is one generation: ``population_size`` function values, in any order. A failed point ranks last;
    if a whole generation fails, it is drawn again with half the step. Points outside the bounds are redrawn,
    then clipped.
    Of 10 or more ``known_points``, the best tenth gives the first mean and covariance (real coordinates and at most 100
    of them; else the best point is the mean).
    With ``asynchronous=True`` a generation closes without its slowest points; these join a later one as injected
    solutions, so that a generation may be told more or fewer points than ``population_size``.
    Memory: O(d^2), O(d) when separable. The recommended point is the best one seen, or the mean of the
    distribution where the objective is noisy. State is numbers and arrays only; generation t draws from
    Philox(seed, t).

    References
    ----------
    N. Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772.
    R. Ros and N. Hansen, A simple modification in CMA-ES achieving linear time and space complexity, PPSN
    2008.
    R. Hamano et al., CMA-ES with margin, GECCO 2022, arXiv:2205.13482; CatCMA with margin, arXiv:2504.07884.
    M. Nomura et al., CMA-ES with learning rate adaptation, GECCO 2023, arXiv:2304.03473.
    M. Nomura et al., Warm starting CMA-ES for hyperparameter optimization, AAAI 2021, arXiv:2012.06932.
    N. Hansen, A. S. P. Niederberger, L. Guzzella and P. Koumoutsakos, A method for handling uncertainty in evolutionary
    optimization with an application to feedback control of combustion, IEEE TEC 13(1), 2009.
    N. Hansen, Benchmarking a BI-population CMA-ES on the BBOB-2009 function testbed, GECCO 2009.
    N. Hansen, Injecting external solutions into CMA-ES, arXiv:1110.4181.
    A. Auger and N. Hansen, A restart CMA evolution strategy with increasing population size, CEC 2005.

    Examples
    --------
    >>> cma(population_size=12)
    EvolutionStrategy(sigma=None, population_size=12, separable=None, restarts=0, restart_strategy='ipop', ...)
    """
    return EvolutionStrategy(
        sigma, population_size, separable, restarts, restart_strategy, noise_handling, adapt_learning_rate
    )


@dataclass(frozen=True, slots=True)
class EvolutionStrategy:
    """The solver behind :func:`cma`; parameters are described there."""

    sigma: float | None = None
    population_size: int | None = None
    separable: bool | None = None
    restarts: int = 0
    restart_strategy: Literal["ipop", "bipop"] = "ipop"
    noise_handling: bool | None = None
    adapt_learning_rate: bool = False

    @property
    def handles_levels(self) -> bool:
        """Integer and Choice coordinates can be searched."""
        return True

    def __post_init__(self) -> None:
        if self.sigma is not None and not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise OptionError(f"cma: sigma must be a positive number, got {self.sigma!r}.")
        size = self.population_size
        if size is not None and (isinstance(size, bool) or int(size) != size or size < 4):
            raise OptionError(f"cma: population_size must be a whole number >= 4, got {size!r}.")
        if isinstance(self.restarts, bool) or int(self.restarts) != self.restarts or self.restarts < 0:
            raise OptionError(f"cma: restarts must be a whole number >= 0, got {self.restarts!r}.")
        if self.restart_strategy not in ("ipop", "bipop"):
            raise OptionError(f"cma: restart_strategy must be 'ipop' or 'bipop', got {self.restart_strategy!r}.")

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`~vamo_bbo.core.solver.Solver`."""
        state = State(seed=seed, backend=backend, info=info)
        state.arrays = {"x": np.array(x0), "best": np.array(x0), "start": np.array(x0)}
        state.versions = {"x": 0, "best": 0, "start": 0}
        size = self.population_size or 4 + math.floor(3 * math.log(max(x0.size, 1)))
        state.scalars = {
            "best_value": math.nan,
            "population_size": float(size),
            "restart": 0.0,
            "stopped": 0.0,
            "replicates": 1.0,
            "stuck": 0.0,
            "first_population": float(size),
            "large_population": float(size),
            "small": 0.0,
            "spent": 0.0,
            "spent_large": 0.0,
            "spent_small": 0.0,
        }
        state.scalars["ignored"] = 0.0
        if self._handles_noise(state):
            state.arrays["medians"] = np.full(2 * noise_handling.WINDOW, np.nan)
        plan = self._plan(state)
        _strategy(plan).start(state, plan)
        if _strategy(plan) is _evolution:
            _evolution.start_from_known(state, plan, info)
        return state

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the points of this generation that have no answer yet."""
        points, _ = self._generation(state)
        anchor = state.anchor("x")
        probes = (Probe(_id(state, k), anchor, point=points[j]) for k, j in enumerate(self._asked(state)))
        return tuple(p for p in probes if p.id not in state.inbox)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last one of the generation updates the distribution."""
        size = len(self._asked(state))
        for answer in answers:
            mine = answer.id[:3] == _id(state, 0)[:3] and 0 <= answer.id[3] < size
            if not mine or answer.id in state.inbox:
                if not take_late(state, answer):
                    state.scalars["ignored"] += 1
                continue
            state.inbox[answer.id] = answer
            if len(state.inbox) == size:
                self._close(state)
                size = len(self._asked(state))
        return state

    def takes_late(self, info: ProblemInfo) -> bool:
        """Return whether points that come after their generation join a later one: real ones do."""
        return info.levels is None

    def status(self, state: State) -> Status | None:
        """Return convergence after the last restart, or that whole generations keep failing."""
        if state.attempt >= _MAX_FAILED_ATTEMPTS:
            return Status(4, False, f"cma: {_MAX_FAILED_ATTEMPTS} generations in a row failed as a whole.")
        if state.scalars["stopped"]:
            again = f" after {self.restarts} restarts" if self.restarts else ""
            return Status(0, True, f"cma: the search distribution has converged{again}.")
        return None

    def recommend(self, state: State) -> Array:
        """Return the best point seen, or the mean of the distribution where the objective is noisy."""
        noisy = state.info.noisy and state.info.levels is None
        return state.arrays["x" if noisy or math.isnan(state.scalars["best_value"]) else "best"]

    def _handles_noise(self, state: State) -> bool:
        if self.noise_handling is not None:
            return self.noise_handling
        return state.info.noisy and state.info.levels is None

    def _asked(self, state: State) -> Sequence[int]:
        """Return the point of each value of the open generation."""
        size = int(state.scalars["population_size"])
        return noise_handling.points_of(size, state.scalars) if self._handles_noise(state) else range(size)

    def _plan(self, state: State) -> Plan:
        return plan_of(state, self.sigma, self.separable, self.adapt_learning_rate)

    def _generation(self, state: State) -> tuple[list[Array], list[Any]]:
        """Return the points of the open generation and what the strategy wants to be told for each."""
        key = (state.step, state.attempt)
        cached = state.cache.get("generation")
        if cached is None or cached[0] != key:
            plan = self._plan(state)
            cached = (key, _strategy(plan).draw(state, plan))
            state.cache["generation"] = cached
        points, tokens = cached[1]
        return points, tokens

    def _close(self, state: State) -> None:
        points, tokens = self._generation(state)
        asked = self._asked(state)
        answers = [state.inbox[_id(state, k)] for k in range(len(asked))]
        raw = np.array([math.nan if a.error is not None else float(a.value) for a in answers])
        raw[~np.isfinite(raw)] = math.nan
        state.inbox = {}
        state.scalars["spent"] += len(raw)
        plan = self._plan(state)
        strategy = _strategy(plan)
        values = raw
        if self._handles_noise(state):
            values, widen = noise_handling.settle(
                raw, len(points), state.scalars, state.arrays["medians"], state.arrays["x"].size
            )
            if widen != 1.0:
                strategy.rescale(state, plan, widen)
        if np.isnan(values).all():
            strategy.rescale(state, plan, 0.5)
            state.attempt += 1
            return
        self._keep_best(state, points, values)
        worst = np.nanmax(values)
        values[np.isnan(values)] = worst + max(worst - np.nanmin(values), abs(worst) * 1e-3, 1e-300)
        injected = self._injected(state, plan)
        told = list(zip(tokens, values.tolist(), strict=True))
        if given_up(answers):
            told = _without_late(state, told, asked, answers, points)
        strategy.tell(state, plan, told + injected)
        state.scalars["step_size"] = state.scalars["sigma"]
        state.arrays["x"][...] = to_x(plan, state, strategy.mean(state, plan))
        state.versions["x"] += 1
        state.step, state.attempt = state.step + 1, 0
        if strategy.finished(state, plan):
            self._restart(state, plan)

    def _injected(self, state: State, plan: Plan) -> list[tuple[Any, float]]:
        """Return what is told of earlier generations' points that have come in; forget these."""
        found = []
        for key in sorted(state.late):  # in the order in which they were asked, whatever the order in which they came
            late = state.late[key]
            if math.isnan(late.value) and state.step - key[0] <= STALEST:
                continue
            del state.late[key]
            if not math.isnan(late.value) and late.point is not None:
                self._keep_best(state, [late.point], np.array([late.value]))
                found.append((_evolution.inject(state, plan, late.point), late.value))
        return found

    def _keep_best(self, state: State, points: list[Array], values: FloatArray) -> None:
        k = int(np.nanargmin(values))
        if not values[k] >= state.scalars["best_value"]:  # also when there is none yet (NaN)
            state.scalars["best_value"] = float(values[k])
            state.arrays["best"][...] = points[k]
            state.versions["best"] += 1

    def start_again(self, state: State) -> None:
        """Give up this start for another one elsewhere, with as large a population; between two generations."""
        self._elsewhere(state, self._plan(state), 1.0, generator_of(state, stream=1))

    def _restart(self, state: State, plan: Plan) -> None:
        scalars = state.scalars
        if scalars["restart"] >= self.restarts:
            scalars["stopped"] = 1.0
            return
        scalars["restart"] += 1
        generator = generator_of(state, stream=1)
        scalars["population_size"], shrink = self._next_population(state, generator)
        self._elsewhere(state, plan, shrink, generator)

    def _elsewhere(self, state: State, plan: Plan, shrink: float, generator: np.random.RandomState) -> None:
        """Begin at a random point: of the box where there is one, else near the first start."""
        state.late.clear()
        if self._handles_noise(state):  # what the last start met is no measure of what this one will
            state.scalars |= {"replicates": 1.0, "stuck": 0.0}
            state.arrays["medians"][:] = np.nan
        low, high = plan.bounds[:, 0], plan.bounds[:, 1]
        boxed = np.isfinite(low) & np.isfinite(high)
        y = (state.arrays["start"].astype(np.float64) - plan.origin) / plan.scale
        y += plan.sigma * generator.standard_normal(y.size)
        uniform = generator.random_sample(y.size)
        y[boxed] = low[boxed] + uniform[boxed] * (high - low)[boxed]
        state.arrays["x"][...] = to_x(plan, state, y.clip(low, high))
        state.versions["x"] += 1
        _strategy(plan).start(state, plan._replace(sigma=plan.sigma * shrink))

    def _next_population(self, state: State, generator: np.random.RandomState) -> tuple[float, float]:
        """Return the population of the next start and the factor of its first step.

        BIPOP counts the values of the large starts (the first one too) and of the small ones, and makes the kind that
        has used fewer; a small start has ``first (large / (2 first))^(u^2)`` points and the step ``10^(-2 u')``.
        """
        scalars = state.scalars
        spent = scalars["spent"] - scalars["spent_large"] - scalars["spent_small"]
        scalars["spent_small" if scalars["small"] else "spent_large"] += spent
        first, large = scalars["first_population"], scalars["large_population"]
        small = scalars["spent_small"] < scalars["spent_large"] and scalars["restart"] > 1
        scalars["small"] = float(self.restart_strategy == "bipop" and small)
        if scalars["small"]:
            shape, length = generator.random_sample(2)
            return float(math.floor(first * max(1.0, 0.5 * large / first) ** (shape**2))), 10.0 ** (-2.0 * length)
        scalars["large_population"] = 2.0 * large
        return 2.0 * large, 1.0


def _strategy(plan: Plan) -> Any:
    """Return the module that adapts the distribution; both have the same functions."""
    return _evolution if plan.variant in ("full", "separable") else _cmaes


def _id(state: State, index: int) -> ProbeId:
    return (state.step, state.phase, state.attempt, index)


def _without_late(
    state: State,
    told: list[tuple[Any, float]],
    asked: Sequence[int],
    answers: Sequence[Answer],
    points: list[Array],
) -> list[tuple[Any, float]]:
    """Return what is told of the points that are in; remember the others, by one of their values."""
    known = {j for j, answer in zip(asked, answers, strict=True) if answer.error != LATE}
    kept = [told[j] for j in sorted(known)]
    for k, j in enumerate(asked):
        if j not in known:
            known.add(j)
            state.late[_id(state, k)] = Late(point=points[j])
    return kept
