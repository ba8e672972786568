"""Optuna: our solvers as a sampler of a study, and a journal as a study that optuna-dashboard opens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from vamo_bbo._errors import StateError
from vamo_bbo.optimizer import Optimizer
from vamo_bbo.run.load import JournalData
from vamo_bbo.run.setup import seed_of
from vamo_bbo.space import Choice, Integer, Real, Space

__all__ = ["VamoSampler", "export_study"]


def _space_of(distributions: dict[str, BaseDistribution]) -> Space:
    parameters: dict[str, Any] = {}
    for name, d in distributions.items():
        if isinstance(d, FloatDistribution) and d.step is None:
            parameters[name] = Real(d.low, d.high, d.log)
        elif isinstance(d, IntDistribution):
            parameters[name] = Integer(d.low, d.high, d.log, d.step)
        elif isinstance(d, CategoricalDistribution):
            parameters[name] = Choice(list(d.choices))
    return Space(parameters)


class VamoSampler(BaseSampler):  # type: ignore[misc]
    """Sample the parameters of an Optuna study with one of our solvers.

    The solver takes over after the first trial, when the search space is known; parameters it cannot search (stepped
    floats, parameters that not every trial has) are drawn at random. Failed and pruned trials are
    failed evaluations. Minimization and maximization; one objective.

    Parameters
    ----------
    method : str or solver, default "bayes"
        The solver; integers and categories need "bayes" or "cma".
    rng : None, int or Generator
        Seed.

    Examples
    --------
    >>> import optuna
    >>> from vamo_bbo.integrations.optuna import VamoSampler
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> study = optuna.create_study(sampler=VamoSampler(rng=0))
    >>> def objective(trial):
    ...     trees = trial.suggest_int("trees", 1, 1000, log=True)
    ...     return (trial.suggest_float("a", 0, 4) - 1) ** 2 + abs(trees - 100) / 100
    >>> study.optimize(objective, n_trials=40)
    >>> study.best_value < 0.1
    True
    """

    def __init__(self, method: Any = "bayes", rng: Any = None) -> None:
        self.method, self.seed = method, seed_of(rng)
        self.random = RandomSampler(seed=self.seed % 2**32)
        self.optimizer: Optimizer | None = None
        self.space: Space | None = None
        self.open: dict[int, Any] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that all finished trials share and the solver can search."""
        found = optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))
        if any(not d.single() for d in found.values()):
            names = [n for n, d in found.items() if not d.single() and n in _searchable(found)]
            return {n: found[n] for n in sorted(names)}
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point of the solver, or nothing while a round is open elsewhere."""
        if not search_space:
            return {}
        space = _space_of(search_space)
        if self.optimizer is None or self.space != space:
            self.space, self.open = space, {}
            self.optimizer = Optimizer(space, self.method, rng=self.seed)
        asked: Sequence[Any] = self.optimizer.ask(1)
        if not asked:
            return {}  # a worker more than the round has points: it samples at random
        self.open[trial.number] = asked[0]
        return dict(asked[0].params)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a parameter that the solver does not search."""
        return self.random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the solver the value of its trial."""
        asked = self.open.pop(trial.number, None)
        if asked is None or self.optimizer is None:
            return
        value = values[0] if state == TrialState.COMPLETE and values is not None else math.nan
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        self.optimizer.tell([asked], [sign * value])


def _searchable(distributions: dict[str, BaseDistribution]) -> set[str]:
    try:
        return set(_space_of(distributions).names)
    except ValueError:
        return set()


def _distribution(parameter: Any) -> BaseDistribution:
    if isinstance(parameter, Real):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return CategoricalDistribution(list(parameter.options))


def export_study(data: JournalData, storage: Any, name: str = "vamo_bbo") -> int:
    """Write the evaluations of a journal into a new Optuna study, for optuna-dashboard; return how many.

    Parameters
    ----------
    data : JournalData
        What :func:`vamo_bbo.load` returned.
    storage : str or storage
        Such as ``"sqlite:///study.db"``.
    name : str
        Name of the study.

    Raises
    ------
    StateError
        The storage has a study of this name.
    """
    try:
        study = optuna.create_study(storage=storage, study_name=name)
    except optuna.exceptions.DuplicatedStudyError:
        raise StateError(f"{storage} already holds a study {name!r}: choose another name or file.") from None
    values, errors, at, elapsed = (data.evaluations[key] for key in ("value", "error", "at", "elapsed"))
    distributions = _distributions(data)
    trials = []
    for k, params in enumerate(data.params):
        if not params:
            continue
        free = {name: params[name] for name in distributions}
        trials.append(_frozen(free, distributions, values[k], errors[k], at[k], elapsed[k]))
    study.add_trials(trials)
    return len(trials)


def _distributions(data: JournalData) -> dict[str, BaseDistribution]:
    space = data.space
    if space is not None:
        return {name: _distribution(p) for name, p in space._free.items()}
    if data.points is None:
        return {}
    low, high = np.nanmin(data.points, axis=0), np.nanmax(data.points, axis=0)
    return {n: FloatDistribution(a, b) for n, a, b in zip(data.names, low.tolist(), high.tolist(), strict=True)}


def _frozen(
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    value: float,
    error: str | None,
    at: float,
    seconds: float,
) -> FrozenTrial:
    failed = error is not None or not math.isfinite(value)
    trial = optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        value=None if failed else float(value),
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        user_attrs={"error": error} if error else {},
    )
    trial.datetime_start = datetime.fromtimestamp(at - seconds)
    trial.datetime_complete = datetime.fromtimestamp(at)
    return trial
