"""CMA-ES and its relatives from the PyPI package ``cmaes``, behind the solver protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProbeId, ProblemInfo
from vamo_bbo.solvers import _cmaes

__all__ = ["EvolutionStrategy", "cma"]

_MAX_FAILED_ATTEMPTS = 20


def cma(
    sigma: float | None = None,
    *,
    population_size: int | None = None,
    separable: bool | None = None,
    restarts: int = 0,
    adapt_learning_rate: bool = False,
) -> EvolutionStrategy:
    """Evolution strategy with covariance matrix adaptation, for small d, mixed types and rugged objectives.

    Real coordinates: CMA-ES, or its separable variant in many dimensions; Integer parameters: CMA-ES with
    margin; Choice parameters: CatCMA with margin. All are the implementations of the PyPI package ``cmaes``
    (extra ``cma``).

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
        After convergence start again with twice the population (IPOP), at most this many times: for
        multimodal objectives. The budget of the run ends them earlier.
    adapt_learning_rate : bool, default False
        Learning-rate adaptation (LRA-CMA-ES) for strong noise and large budgets; not with Integer, Choice or
        ``separable``.

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
    A. Auger and N. Hansen, A restart CMA evolution strategy with increasing population size, CEC 2005.

    Examples
    --------
    >>> cma(population_size=12)
    EvolutionStrategy(sigma=None, population_size=12, separable=None, restarts=0, adapt_learning_rate=False)
    """
    return EvolutionStrategy(sigma, population_size, separable, restarts, adapt_learning_rate)


@dataclass(frozen=True, slots=True)
class EvolutionStrategy:
    """The solver behind :func:`cma`; parameters are described there."""

    sigma: float | None = None
    population_size: int | None = None
    separable: bool | None = None
    restarts: int = 0
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

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`~vamo_bbo.core.solver.Solver`."""
        _cmaes.package()
        state = State(seed=seed, backend=backend, info=info)
        state.arrays = {"x": np.array(x0), "best": np.array(x0), "start": np.array(x0)}
        state.versions = {"x": 0, "best": 0, "start": 0}
        size = self.population_size or 4 + math.floor(3 * math.log(max(x0.size, 1)))
        state.scalars = {
            "best_value": math.nan,
            "population_size": float(size),
            "restart": 0.0,
            "stopped": 0.0,
        }
        state.scalars["ignored"] = 0.0
        plan = self._plan(state)
        state.scalars["sigma"] = plan.sigma
        optimizer = _cmaes.fresh(state, plan)
        if _cmaes.start_from_known(optimizer, plan, info):
            state.arrays["x"][...] = _cmaes.to_x(plan, state, _cmaes.mean_of(optimizer, plan, state))
        _cmaes.save(optimizer, state)
        return state

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the points of this generation that have no answer yet."""
        points, _ = self._generation(state)
        anchor = state.anchor("x")
        probes = (Probe(_id(state, k), anchor, point=point) for k, point in enumerate(points))
        return tuple(p for p in probes if p.id not in state.inbox)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take answers; the last one of the generation updates the distribution."""
        size = int(state.scalars["population_size"])
        for answer in answers:
            mine = answer.id[:3] == _id(state, 0)[:3] and 0 <= answer.id[3] < size
            if not mine or answer.id in state.inbox:
                state.scalars["ignored"] += 1
                continue
            state.inbox[answer.id] = answer
            if len(state.inbox) == size:
                self._close(state)
        return state

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

    def _plan(self, state: State) -> _cmaes.Plan:
        return _cmaes.plan_of(state, self.sigma, self.separable, self.adapt_learning_rate)

    def _generation(self, state: State) -> tuple[list[Array], list[Any]]:
        """Return the points of the open generation and what the package wants to be told for each."""
        key = (state.step, state.attempt)
        cached = state.cache.get("generation")
        if cached is None or cached[0] != key:
            cached = (key, _cmaes.draw(state, self._plan(state)))
            state.cache["generation"] = cached
        points, tokens = cached[1]
        return points, tokens

    def _close(self, state: State) -> None:
        points, tokens = self._generation(state)
        answers = [state.inbox[_id(state, k)] for k in range(len(points))]
        values = np.array([math.nan if a.error is not None else float(a.value) for a in answers])
        values[~np.isfinite(values)] = math.nan
        state.inbox = {}
        plan = self._plan(state)
        optimizer = _cmaes.load(_cmaes.fresh(state, plan), state)
        if np.isnan(values).all():
            state.attempt += 1
            _cmaes.core_of(optimizer)._sigma *= 0.5
            _cmaes.save(optimizer, state)
            return
        self._keep_best(state, points, values)
        worst = np.nanmax(values)
        values[np.isnan(values)] = worst + max(worst - np.nanmin(values), abs(worst) * 1e-3, 1e-300)
        _cmaes.tell(optimizer, list(zip(tokens, values.tolist(), strict=True)))
        _cmaes.save(optimizer, state)
        state.scalars["step_size"] = float(getattr(_cmaes.core_of(optimizer), "_sigma", math.nan))
        state.arrays["x"][...] = _cmaes.to_x(plan, state, _cmaes.mean_of(optimizer, plan, state))
        state.versions["x"] += 1
        state.step, state.attempt = state.step + 1, 0
        if _cmaes.finished(optimizer, plan):
            self._restart(state, plan)

    def _keep_best(self, state: State, points: list[Array], values: FloatArray) -> None:
        k = int(np.nanargmin(values))
        if not values[k] >= state.scalars["best_value"]:  # also when there is none yet (NaN)
            state.scalars["best_value"] = float(values[k])
            state.arrays["best"][...] = points[k]
            state.versions["best"] += 1

    def _restart(self, state: State, plan: _cmaes.Plan) -> None:
        if state.scalars["restart"] >= self.restarts:
            state.scalars["stopped"] = 1.0
            return
        state.scalars["restart"] += 1
        state.scalars["population_size"] *= 2
        generator = _cmaes.generator_of(state, stream=1)
        low, high = plan.bounds[:, 0], plan.bounds[:, 1]
        boxed = np.isfinite(low) & np.isfinite(high)
        y = (state.arrays["start"].astype(np.float64) - plan.origin) / plan.scale
        y += plan.sigma * generator.standard_normal(y.size)
        uniform = generator.random_sample(y.size)
        y[boxed] = (low + uniform * (high - low))[boxed]
        state.arrays["x"][...] = _cmaes.to_x(plan, state, y.clip(low, high))
        state.versions["x"] += 1
        _cmaes.save(_cmaes.fresh(state, plan), state)


def _id(state: State, index: int) -> ProbeId:
    return (state.step, state.phase, state.attempt, index)
