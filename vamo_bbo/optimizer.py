"""Ask and tell for people: trials out, values in, in any order and in part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError, StateError
from vamo_bbo._typing import Array
from vamo_bbo.core import sampling
from vamo_bbo.core.calibration import noise_level
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe, ProbeId
from vamo_bbo.minimize import is_scipys, resolve_method
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run import outputs
from vamo_bbo.run.best import Best
from vamo_bbo.run.failures import FailureLog, FailureRecord
from vamo_bbo.run.fixed import Fixed
from vamo_bbo.run.history import History, StepRecord
from vamo_bbo.run.known import parse_known
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.session import new_result
from vamo_bbo.run.setup import seed_of, setup
from vamo_bbo.run.stop import Budget, Plateau, horizon_of
from vamo_bbo.space import Space
from vamo_bbo.trial import Trial, answer_of

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Optimizer", "Trial"]


class Optimizer:
    """Drive any of our solvers by hand.

    Parameters
    ----------
    x0 : (d,) array or Space
        Start, or the space of named parameters to search.
    method : str or solver, optional
        One of our methods by name, or configured. Default "spsa", and "bayes" for a space: ``vb.bayes(n_points=8)`` if
        eight trials are to be evaluated at the same time.
    n_samples : int, optional
        The objective is a finite sum of so many terms; trials then carry ``idx``.
    gradient : bool, default False
        Trials may ask for gradients.
    bounds, x_scale, rng, backend, maxfev, maxjev, f_target, tol, max_failures, options
        As for :func:`vamo_bbo.minimize`. There is no default budget.
    noisy : bool, default False
        Whether two evaluations of one point may differ.

    Raises
    ------
    OptionError
        An argument has a value that is not allowed.
    CapabilityError
        The method needs something that the objective does not offer.

    Notes
    -----
    The whole object pickles at any moment, also between ``ask`` and ``tell``; two optimizers with the same arguments
    that are told the same values end in the same state, whatever the order of the answers.

    Examples
    --------
    >>> opt = Optimizer([2.0, -1.0], "spsa", rng=1, maxfev=200)
    >>> while not opt.stop():
    ...     trials = opt.ask()
    ...     opt.tell(trials, [float((t.x**2).sum()) for t in trials])
    >>> bool(opt.best_value < 0.5), opt.nfev <= 200
    (True, True)
    """

    def __init__(
        self,
        x0: Any,
        method: Any = None,
        *,
        n_samples: int | None = None,
        gradient: bool = False,
        bounds: Any = None,
        x_scale: Any = None,
        noisy: bool = False,
        rng: Any = None,
        backend: str = "auto",
        maxfev: float | None = None,
        maxjev: float | None = None,
        f_target: float | None = None,
        tol: float | None = None,
        max_failures: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.space = x0 if isinstance(x0, Space) else None
        if self.space is not None:
            if bounds is not None or x_scale is not None or n_samples is not None or gradient:
                raise OptionError("a Space excludes bounds, x_scale, n_samples and gradient.")
            x0, bounds = self.space.x0, [(0.0, 1.0)] * self.space.size
        if method is None:
            method = "spsa" if self.space is None else "bayes"
        options = dict(options or {})
        self.budget = Budget(maxfev, maxjev, None, options.pop("maxiter", None), f_target, tol, max_failures)
        if isinstance(method, str) and (method.lower() == "auto" or is_scipys(method)):
            raise OptionError(f"an Optimizer drives our own solvers, such as 'spsa' or 'cma'; got method={method!r}.")
        self.solver = resolve_method(method, options)
        problem = setup(
            _not_called if n_samples is None else _sum_of(n_samples, gradient),
            x0,
            jac=_not_called if gradient and n_samples is None else None,
            bounds=bounds,
            x_scale=x_scale,
            noisy=noisy,
        )
        self.objective = problem.objective
        if self.objective.size == 0:
            self.solver = Fixed()
        if self.space is not None and self.space.levels.any():
            if not getattr(self.solver, "handles_levels", False):
                raise CapabilityError("Integer and Choice parameters need method='bayes' or 'cma'.")
            self.objective.declare(levels=self.space.levels)
        self.seed, self.backend = seed_of(rng), backend
        self._problem = problem
        self._bounds: tuple[Array, Array] | None = None
        if problem.lower is not None and problem.upper is not None:
            self._bounds = problem.lower, problem.upper
        inf = math.inf
        self.ledger = Ledger(self.objective.info, inf if maxfev is None else maxfev, inf if maxjev is None else maxjev)
        self.best = Best(n_samples)
        self.failures, self.history = FailureLog(), History()
        self.nit = self.ignored = 0
        self._known: list[tuple[Array, float]] = []
        self._foreign: tuple[float, Array] | None = None
        self._plateau = None if tol is None else Plateau(tol)
        self._reasons: dict[str, Any] = {}
        self._state: State | None = None
        self._afforded: set[ProbeId] = set()
        self._out: dict[ProbeId, Probe] = {}
        # checks now, not at the first ask, what the method needs
        self.solver.init(problem.z0, seed=self.seed, backend=backend, info=self.objective.info)

    @property
    def state(self) -> State:
        """The solver's state; it is made at the first use, at the best point told before."""
        if self._state is None:
            z0 = self._problem.z0
            if self._known:
                points, values = (np.array(column) for column in zip(*self._known, strict=True))
                self._problem.declare_known(points, values)
                known = self.objective.info.known_points
                assert known is not None
                z0 = known[int(np.argmin(values))]
            self._state = self.solver.init(
                z0,
                seed=self.seed,
                backend=self.backend,
                info=self.objective.info,
                horizon=horizon_of(self.solver, self.objective.info, z0.size, self.ledger.maxfev, self.ledger.maxjev),
            )
        return self._state

    @property
    def nfev(self) -> int:
        """Values told, failed ones included; of a finite sum: calls."""
        return self.ledger.nfev

    @property
    def pending(self) -> list[Trial]:
        """Trials that were handed out and have no answer yet."""
        return [self._trial(probe) for probe in self._out.values()]

    @property
    def best_value(self) -> float:
        """Lowest value told, foreign points included; of a finite sum, on all samples. inf before the first."""
        foreign = math.inf if self._foreign is None else self._foreign[0]
        return min(self.best.value, foreign)

    @property
    def best_x(self) -> Array | None:
        """Point of :attr:`best_value`; None before the first."""
        if self._foreign is not None and self._foreign[0] <= self.best.value:
            return self._foreign[1].copy()
        return None if self.best.z is None else self.objective.scaling.to_user(self.best.z.copy())

    @property
    def recommendation(self) -> Array:
        """The point that the solver recommends, (d,): of a noisy objective it is not the luckiest draw."""
        return self.objective.scaling.to_user(self.solver.recommend(self.state).copy())

    def ask(self, n: int | None = None) -> list[Trial]:
        """Return at most ``n`` trials (default: all that are open); each is handed out once.

        The list is empty while a round waits for answers, and after the end.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0):
            raise OptionError(f"ask: n must be a whole number >= 0 or None, got {n!r}.")
        if self.stop():
            return []
        fresh = [probe for probe in self.solver.ask(self.state) if probe.id not in self._out]
        new = [probe for probe in fresh if probe.id not in self._afforded]
        if new:
            limit = self.ledger.afford(new)
            if limit is not None:
                if not self._out:
                    self._reasons[limit] = getattr(self.ledger, limit)
                return []
            self._afforded.update(probe.id for probe in new)
        trials = []
        for probe in fresh[:n]:
            self._out[probe.id] = probe
            trials.append(self._trial(probe))
        return trials

    def requeue(self, trials: Trial | Sequence[Trial] | None = None) -> None:
        """Hand out these pending trials again (default: all of them): their worker is lost."""
        for trial in self.pending if trials is None else _listed(trials):
            self._out.pop(trial.id, None)

    def tell(self, trials: Trial | Sequence[Trial], values: Any) -> None:
        """Take answers, in any order and in part; an answer to what is not pending is ignored and counted.

        Parameters
        ----------
        trials : Trial or sequence of Trial
            What was evaluated.
        values : one value, or one per trial
            By ``trial.want``: a float, or the (len(idx),) values of a finite sum; a (d,) gradient; a pair (value or
            values, gradient). An exception instance, None or NaN is a failure.

        Raises
        ------
        OptionError
            A value has the wrong shape, or there are more or fewer values than trials.
        """
        if isinstance(trials, Trial):
            trials, values = [trials], [values]
        trials = _list_of(trials, "a list of trials")
        values = _list_of(values, "a list of values for a list of trials")
        if not all(isinstance(trial, Trial) for trial in trials):
            raise OptionError(f"tell: takes trials that ask returned, got {trials!r}.")
        if len(trials) != len(values):
            raise OptionError(f"tell: {len(trials)} trials but {len(values)} values.")
        answers = [answer_of(trial, value, self.objective) for trial, value in zip(trials, values, strict=True)]
        for trial, answer in zip(trials, answers, strict=True):
            self._take(trial, answer)

    def tell_point(self, x: Any, value: float) -> None:
        """Take the value of a point that was not asked for: ``known_points`` of :func:`vamo_bbo.minimize`.

        It can be the best point, begins or continues ``history``, and is not counted. Told before the first ``ask``,
        the best of such points is where the solver starts, and "cma" also takes its first distribution from the best
        tenth of 10 or more. A value that is NaN or inf, or a point outside the bounds, is left out.

        Parameters
        ----------
        x : (D,) array, or dict of a Space
            The point.
        value : float
            Its value; of a finite sum, on all samples.
        """
        point = self.space.to_unit(x) if self.space is not None and isinstance(x, Mapping) else x
        known = parse_known([(point, outputs.scalar(value))], self.objective.user_size, self._bounds)
        if known is None:
            return
        number = float(known.values[0])
        if self._foreign is None or number < self._foreign[0]:
            self._foreign = (number, known.points[0])
        self.history.append(StepRecord(self.nit, self.best_value, number))
        if self._state is None:
            self._known.append((known.points[0], number))

    def stop(self) -> dict[str, Any]:
        """Return the reasons to stop, empty (false) while the run goes on."""
        budget, reasons = self.budget, self._reasons
        if budget.f_target is not None and self.best_value <= budget.f_target:
            reasons["f_target"] = budget.f_target
        if budget.maxiter is not None and self.nit >= budget.maxiter:
            reasons["maxiter"] = budget.maxiter
        if budget.max_failures is not None and self.failures.count > budget.max_failures:
            reasons["max_failures"] = budget.max_failures
        status = self.solver.status(self.state) if self._state is not None else None
        if status is not None:
            reasons["solver"] = status.message
        return dict(reasons)

    @property
    def result(self) -> OptimizeResult:
        """The result so far, as :func:`vamo_bbo.minimize` would return it, without a re-estimate."""
        from vamo_bbo.result import Result

        reasons, info = self.stop(), self.objective.info
        exact = info.n_samples is None and not info.noisy and self.best_x is not None
        x = self.best_x if exact else self.recommendation
        fields: dict[str, Any] = {} if self.space is None else {"params": self.space.from_unit(x)}
        status = self.solver.status(self.state)
        result = new_result(
            x=x,
            fun=self.best_value if exact else (self.history[-1].value if len(self.history) else math.nan),
            success=bool({"f_target", "tol"} & reasons.keys()) or (status is not None and status.success),
            status=0 if reasons else -1,
            message="; ".join(f"{k}: {v}" for k, v in reasons.items()) or "The run is going on.",
            nfev=self.ledger.nfev,
            njev=self.ledger.njev,
            nfev_samples=self.ledger.nfev_samples,
            njev_samples=self.ledger.njev_samples,
            nit=self.nit,
            best_x=self.best_x,
            best_fun=self.best_value,
            n_failed=self.failures.count,
            failures=self.failures.records,
            history=self.history,
            **fields,
        )
        return Result(result)  # type: ignore[call-arg]

    def describe(self) -> dict[str, Any]:
        """Return what can be said about the run as a dict that JSON can hold."""
        best = self.best_x
        return {
            "method": type(self.solver).__name__ if not hasattr(self.solver, "name") else self.solver.name,
            "solver": repr(self.solver),
            "size": self.objective.user_size,
            "seed": self.seed,
            "nfev": self.ledger.nfev_samples,
            "njev": self.ledger.njev_samples,
            "nit": self.nit,
            "n_failed": self.failures.count,
            "ignored": self.ignored,
            "pending": [list(id) for id in self._out],
            "best_value": self.best_value if math.isfinite(self.best_value) else None,
            "best_x": None if best is None else best.tolist(),
            "recommendation": self.recommendation.tolist(),
            "stop": {k: v if isinstance(v, int | float | str) else str(v) for k, v in self.stop().items()},
        }

    def _trial(self, probe: Probe) -> Trial:
        z = materialize(self.state, probe, np.empty_like(self.state.arrays["x"]))
        x = self.objective.scaling.to_user(z)
        n = self.objective.info.n_samples
        idx = None if n is None or probe.batch is None else sampling.indices(probe.batch, self.seed, n)
        return Trial(probe.id, x, idx, probe.want, None if self.space is None else self.space.from_unit(x))

    def _take(self, trial: Trial, answer: Answer) -> None:
        probe = self._out.pop(trial.id, None)
        if probe is None:
            self.ignored += 1
            return
        self._afforded.discard(trial.id)
        self.ledger.count([probe])
        if answer.error is not None:
            record = FailureRecord(trial.id, answer.error, None, trial.x, trial.want, params=trial.params)
            self.failures.add(record)
        else:
            self.best.offer(self.state, [probe], [answer])
        before = self.state.step
        self._state = self.solver.tell(self.state, [answer])
        if self.state.step != before:
            self._stepped(answer)

    def _stepped(self, answer: Answer) -> None:
        self.nit += 1
        ledger, scalars = self.ledger, self.state.scalars
        value = scalars.get("value", answer.value)
        record = StepRecord(
            self.nit,
            self.best_value if math.isfinite(self.best_value) else value,
            value,
            ledger.nfev,
            ledger.njev,
            ledger.nfev_samples,
            ledger.njev_samples,
            scalars.get("step_size", math.nan),
            n_failed=self.failures.count,
            noise=noise_level(scalars),
            params=None if self.space is None else self.space.from_unit(self.solver.recommend(self.state)),
        )
        self.history.append(record)
        exact = self.objective.info.n_samples is None and not self.objective.info.noisy
        if self._plateau is not None and self._plateau.add(record.fun if exact else record.value):
            self._reasons["tol"] = self.budget.tol


def _listed(trials: Trial | Sequence[Trial]) -> Sequence[Trial]:
    return [trials] if isinstance(trials, Trial) else trials


def _list_of(values: Any, what: str) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise OptionError(f"tell: takes {what}, got {values!r}.") from None


def _not_called(*args: Any) -> NoReturn:
    raise StateError("an Optimizer does not call an objective: evaluate its trials and tell it the values.")


def _sum_of(n_samples: int, gradient: bool) -> FiniteSum:
    return FiniteSum(_not_called, n_samples, _not_called if gradient else None, check_grad=False)
