"""The front door: scipy's call, scipy's methods and our solvers, on one evaluation layer."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo import backends
from vamo_bbo._errors import CapabilityError, OptionError, close_matches
from vamo_bbo._typing import Array
from vamo_bbo.array_call import kind_of, minimize_arrays
from vamo_bbo.core.solver import Solver
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.failures import FailurePolicy, OnError
from vamo_bbo.run.fixed import Fixed
from vamo_bbo.run.known import KnownPoints, parse_known
from vamo_bbo.run.session import run_solver
from vamo_bbo.run.setup import parse_bounds, parse_x0, seed_of, setup
from vamo_bbo.run.stop import Budget
from vamo_bbo.space import Space

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Call", "is_scipys", "minimize", "resolve_method", "run_call"]

_VALUES_ONLY = ("zo-svrg", "zo-sgd", "zo-sign-sgd", "zo-adamm", "zo-nesterov", "spsa", "cma")
_SOLVER = ("init", "ask", "tell", "status", "recommend")


def minimize(
    fun: Callable[..., Any] | FiniteSum,
    x0: Any,
    args: Any = (),
    method: Any = "auto",
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    rng: Any = None,
    workers: Any = 1,
    vectorized: bool = False,
    backend: str = "auto",
    noisy: bool | str | None = None,
    x_scale: Any = None,
    known_points: Iterable[tuple[Any, float]] | None = None,
    maxfev: float | None = None,
    maxjev: float | None = None,
    max_time: float | None = None,
    f_target: float | None = None,
    on_error: OnError = "skip",
    retries: int = 0,
    max_failures: int | None = None,
    eval_timeout: float | None = None,
    asynchronous: bool = False,
    journal: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> OptimizeResult:
    """Minimize a function of one or more variables.

    The first twelve parameters are those of :func:`scipy.optimize.minimize`, in its order. With
    ``method=None`` or the name of a scipy method they mean exactly what they mean there, and the result is
    scipy's; budgets are exact in addition, and failures and Ctrl-C lose nothing.

    Parameters
    ----------
    fun : callable or FiniteSum
        ``fun(x, *args) -> float``, or a sum of per-sample losses. With a ``Space``, ``fun(params, *args)`` with a
        dict; or ``fun(**params)`` if its first parameter has the name of a parameter of the space.
    x0 : (d,) array or Space
        Start; float32 stays float32. Or the space of named parameters to search, which knows where to start. A tensor,
        or another array that speaks DLPack: ``fun`` then receives the same kind, also on a CUDA device.
    args : tuple
        Extra arguments of ``fun`` and ``jac``.
    method : str, solver, callable or None
        "auto": chosen from what is known, and the message says what and why; None: scipy's choice; a name
        ("zo-sgd", "vamo", "cma", ..., or one of scipy's); a configured solver
        (``vb.zo_sgd(n_directions=4)``); a callable that follows scipy's protocol of custom methods.
    jac : callable, True or str, optional
        Gradient of a plain ``fun``; True if ``fun`` returns value and gradient; for scipy's methods also
        "2-point", "3-point", "cs".
    hess, hessp
        For scipy's methods.
    bounds : sequence of pairs or Bounds, optional
        Never violated by our solvers; equal bounds fix a variable.
    constraints
        scipy's constraint objects, exact also where ``fun`` is noisy. "auto" up to 20 variables and our solvers call
        ``fun`` at feasible points only, and the constraints, which they take as cheap, tens of times as often. Where
        they are expensive: ``method="COBYQA"``; for ours ``options={"constraint_handling": "lagrangian"}``.
    tol : float, optional
        For scipy's methods: scipy's. For ours: plateau tolerance (:class:`~vamo_bbo.run.stop.Plateau`); None
        for no such stop.
    callback : callable, optional
        ``callback(intermediate_result)`` or ``callback(xk)``, once a step; ``StopIteration`` ends the run.
    options : dict, optional
        ``maxiter``, ``disp``, and the options of the method: scipy's, or the keyword arguments of our
        factory.
    rng : None, int, Generator, ...
        What ``numpy.random.default_rng`` accepts.
    workers : int, Executor, Client or map-like
        Who evaluates: :func:`vamo_bbo.run.executors.resolve`. scipy's methods evaluate finite differences so. "auto"
        asks for as many points at a time as there are workers, 8 where a pool does not tell.
    vectorized : bool
        ``fun`` takes points as rows, (k, d) -> (k,).
    backend : {"auto", "numpy", "numba", "cupy"}
        Who computes directions.
    noisy : bool, "seed" or "rng", optional
        Whether ``fun`` is noisy. None: under "auto", x0 is evaluated twice to see; else taken as False. "seed" or
        "rng": noisy, and our solvers call ``fun(x, *args, seed=int)`` or ``fun(x, *args, rng=Generator)`` with common
        random numbers: all evaluations of a round get the same, so that their noise cancels in differences. So do
        the functions of a ``FiniteSum``.
    x_scale : float or (d,) array, optional
        Scale of steps and perturbations; for our solvers the width of finite bounds by default.
    known_points : iterable of (x, f), optional
        Warm start: points whose values are known. The run starts at the best of them instead of x0, they can be the
        answer, ``history`` begins with them, and they are not counted in ``nfev``. "cma" also takes its first
        distribution from the best tenth of 10 or more. Pairs with NaN or inf, or outside the bounds, are left out. With
        a ``Space``, x is a dict.
    maxfev, maxjev : float, optional
        Most function values and gradients (sample values and sample gradients of a finite sum); exact. A plain ``fun``
        without ``jac`` under "auto": what is left of a budget at a local minimum is spent on looking for a better one.
    max_time : float, optional
        Most seconds; checked between evaluations.
    f_target : float, optional
        Stop at a value at or below this.
    on_error, retries, max_failures
        See :class:`~vamo_bbo.run.failures.FailurePolicy`.
    eval_timeout : float, optional
        Seconds after which an evaluation is killed (our solvers).
    asynchronous : bool
        Do not wait for stragglers: a round may close when half of it is in and a worker is idle; what comes late joins
        a later round (solvers that cannot do that drop it). Faster where run times vary, but the run then depends on
        them. Default: the same run for any number of workers.
    journal : path, optional
        SQLite file that keeps every evaluation (our solvers). The same call with the same file goes on exactly where it
        stopped, however it stopped; :func:`vamo_bbo.load` reads it.
    progress : bool
        Show a progress line on stderr (tqdm or rich if installed, notebooks included).

    Returns
    -------
    OptimizeResult
        scipy's fields, and ``nfev_samples, njev_samples, n_failed, failures, history``; from our solvers also
        ``fun_std, best_x, best_fun``; with a ``Space`` also ``params``, which the records
        of ``failures`` and ``history`` have, too.

    Raises
    ------
    OptionError
        An argument has a value that is not allowed (a ``ValueError``).
    CapabilityError
        The method needs something that the objective does not offer (a ``ValueError``).
    EvaluationError
        x0 failed three times, or a failure under ``on_error="raise"``.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> result = vb.minimize(lambda x: (x[0] - 1) ** 2 + x[1] ** 2, [0.0, 2.0])
    >>> bool(abs(result.x - [1, 0]).max() < 1e-6)
    True
    >>> result.message[:61]
    'auto chose fd-bfgs (no gradient, 2 variables, deterministic):'
    """
    if callback is not None and not callable(callback):
        raise OptionError(f"callback must be callable or None, got {callback!r}.")
    if not isinstance(options, Mapping | None):
        raise OptionError(f"options must be a dict, got {options!r}.")
    if tol is not None and not isinstance(tol, Real | np.ndarray):
        raise OptionError(f"tol must be a number >= 0 or None, got {tol!r}.")
    backends.check_name(backend)
    options = dict(options or {})
    if isinstance(x0, Space):
        from vamo_bbo.space_call import minimize_space

        return _as_result(minimize_space(locals()))
    given = locals()
    kind = kind_of(x0, backend)
    if kind is not None:
        return minimize_arrays(kind, given, minimize)  # type: ignore[no-any-return]
    call = Call(fun, x0, args, jac, hess, hessp, bounds, constraints, tol, callback, options, rng, workers, vectorized)
    call.backend, call.noisy, call.x_scale, call.progress, call.eval_timeout = (
        backend,
        noisy,
        x_scale,
        progress,
        eval_timeout,
    )
    call.limits = {
        "maxfev": maxfev,
        "maxjev": maxjev,
        "max_time": max_time,
        "f_target": f_target,
        "max_failures": max_failures,
    }
    Budget(**call.limits)  # a wrong limit is refused before it is compared with anything
    call.policy = FailurePolicy(on_error, retries)
    call.asynchronous, call.journal, call.known_points = asynchronous, journal, known_points
    return _as_result(run_call(call, method))


def _as_result(result: OptimizeResult) -> OptimizeResult:
    from vamo_bbo.result import Result

    return Result(result)  # type: ignore[call-arg]


@dataclass(slots=True)
class Call:
    """The arguments of one call of :func:`minimize`, all but the method."""

    fun: Any
    x0: Any
    args: Any
    jac: Any
    hess: Any
    hessp: Any
    bounds: Any
    constraints: Any
    tol: float | None
    callback: Callable[..., Any] | None
    options: dict[str, Any]
    rng: Any = None
    workers: Any = 1
    vectorized: bool = False
    backend: str = "auto"
    noisy: bool | str | None = None
    x_scale: Any = None
    progress: Any = False
    eval_timeout: float | None = None
    asynchronous: bool = False
    journal: str | os.PathLike[str] | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    space: bool = False
    levels: Array | None = None
    known_points: Iterable[tuple[Any, Any]] | None = None
    known: KnownPoints | None = None
    identity: dict[str, Any] | None = None

    @property
    def needs_ours(self) -> bool:
        """Whether an argument asks for what only our solvers have."""
        fragile = self.eval_timeout is not None or self.journal is not None or self.asynchronous
        return fragile or isinstance(self.noisy, str)

    @property
    def has_gradient(self) -> bool:
        """Whether gradients can be asked for."""
        if isinstance(self.fun, FiniteSum):
            return self.fun.has_gradient
        return callable(self.jac) or self.jac is True

    @property
    def size(self) -> int:
        """Number of variables."""
        return int(np.size(self.x0))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """``args`` as a tuple: a single one need not be given as such."""
        return self.args if isinstance(self.args, tuple) else (self.args,)

    @property
    def constrained(self) -> bool:
        """Whether there are constraints other than bounds."""
        return self.constraints is not None and bool(np.size(self.constraints))


def run_call(call: Call, method: Any) -> OptimizeResult:
    """Run ``method`` on the arguments of ``call``."""
    if backends.on_device(call.x0):
        return _run_on_device(call, method)
    if call.known_points is not None:
        _warm(call)
    if isinstance(method, str) and method.lower() == "auto":
        from vamo_bbo.auto import run_auto
        from vamo_bbo.run.progress import following

        with following(call.progress, call.limits) as call.progress:
            return run_auto(call)  # type: ignore[no-any-return]
    if method is None or is_scipys(method):
        from vamo_bbo.scipy_layer.call import run_scipy

        return run_scipy(call, method)  # type: ignore[no-any-return]
    return run_ours(call, method)


def _run_on_device(call: Call, method: Any) -> OptimizeResult:
    """Run one of our solvers on CuPy arrays."""
    host_only = {
        "constraints": call.constrained,
        "workers": call.workers not in (None, 1),
        "journal": call.journal is not None,
        "eval_timeout": call.eval_timeout is not None,
        "known_points": call.known_points is not None,
    }
    for name, given in host_only.items():
        if given:
            raise OptionError(f"{name} cannot be used with an x0 on a CUDA device; move x0 to the host.")
    call.backend, chosen = "cupy", isinstance(method, str) and method.lower() == "auto"
    if chosen:
        values = "zo-svrg" if isinstance(call.fun, FiniteSum) else "zo-sgd"
        method = "adam" if call.has_gradient else values
    if method is None or is_scipys(method) or (isinstance(method, str) and method.lower() == "cma"):
        raise OptionError(f"method={method!r} works on the host; with an x0 on a CUDA device use 'adam' or 'zo-sgd'.")
    result: Any = run_ours(call, method)
    if chosen:
        result.message = f"auto chose {method} (x0 is on a CUDA device): {result.message}"
    return result  # type: ignore[no-any-return]


def _warm(call: Call) -> None:
    """Start at the best of the points that are known."""
    from vamo_bbo.scipy_layer.wrappers import violation_of

    assert call.known_points is not None
    x0 = parse_x0(call.x0)
    violation = violation_of(call.constraints, None, None)
    call.known = parse_known(call.known_points, x0.size, parse_bounds(call.bounds, x0.size), violation)
    call.known_points = None
    if call.known is not None:
        call.x0 = call.known.points[call.known.best].astype(x0.dtype)


def is_scipys(method: Any) -> bool:
    """Return whether ``method`` is run by scipy: one of its names, or a callable of its protocol."""
    if isinstance(method, str):
        from vamo_bbo.scipy_layer.methods import METHODS

        return method.lower() in {name.lower() for name in METHODS}
    return callable(method) and not _is_solver(method) and _name_of_factory(method) is None


def _name_of_factory(method: Any) -> str | None:
    """Return the name of one of our methods that was given by its function, as in ``method=vb.cma``."""
    from vamo_bbo.solvers import METHODS

    return next((name for name, factory in METHODS.items() if method is factory), None)


def _is_solver(method: Any) -> bool:
    return all(callable(getattr(method, name, None)) for name in _SOLVER)


def run_ours(call: Call, method: Any) -> OptimizeResult:
    """Run one of our solvers."""
    if call.constrained:
        from vamo_bbo.constrained import minimize_constrained

        return minimize_constrained(call, method)  # type: ignore[no-any-return]
    options = dict(call.options)
    limits = dict(call.limits)
    limits["maxiter"], disp = options.pop("maxiter", None), bool(options.pop("disp", False))
    for name in ("maxfev", "maxfun"):  # where scipy's methods have it
        value = options.pop(name, None)
        limits["maxfev"] = value if limits.get("maxfev") is None else limits["maxfev"]
    solver = resolve_method(method, options)
    _warn_unused(call, method)
    if call.levels is not None and not getattr(solver, "handles_levels", False):
        raise CapabilityError(
            f"method={_name_of(method)!r} cannot search Integer or Choice parameters; use 'bayes' or 'cma'."
        )
    problem = setup(
        call.fun,
        call.x0,
        args=call.arguments,
        jac=call.jac if callable(call.jac) or call.jac is True else None,
        bounds=call.bounds,
        x_scale=call.x_scale,
        vectorized=call.vectorized,
        noisy=call.noisy or False,
    )
    if call.levels is not None:
        problem.objective.declare(levels=call.levels)
    if call.known is not None:
        problem.declare_known(call.known.points, call.known.values)
    if problem.objective.size == 0:
        solver = Fixed()
    from vamo_bbo.run.progress import following

    with following(call.progress, limits) as follow:
        result: Any = run_solver(
            problem,
            solver,
            Budget(**limits, tol=call.tol),
            policy=call.policy,
            seed=None if call.rng is None else seed_of(call.rng),
            backend=call.backend,
            callback=follow(call.callback),
            workers=call.workers,
            eval_timeout=call.eval_timeout,
            asynchronous=call.asynchronous,
            journal=call.journal,
            identity=call.identity,
        )
    if disp:
        print(f"{result.message}\n  fun = {result.fun:.6g}, nfev = {result.nfev}, nit = {result.nit}")
    return result  # type: ignore[no-any-return]


def _name_of(method: Any) -> str:
    return method if isinstance(method, str) else type(method).__name__


def _warn_unused(call: Call, method: Any) -> None:
    name = _name_of(method)
    unused = []
    if call.hess is not None:
        unused.append("Hessian information (hess)")
    if call.hessp is not None:
        unused.append("Hessian-vector product information (hessp)")
    if call.has_gradient and name.lower().replace("_", "-") in _VALUES_ONLY:
        unused.append("gradient information (jac)")
    for what in unused:
        warnings.warn(f"Method {name} does not use {what}.", RuntimeWarning, stacklevel=5)


def resolve_method(method: Any, options: Mapping[str, Any]) -> Solver:
    """Return the solver that ``method`` names or is.

    Parameters
    ----------
    method : str or solver
        Names are case-insensitive; dashes and underscores are the same.
    options : mapping
        Keyword arguments of the solver's factory.

    Raises
    ------
    OptionError
        An unknown name, or an option that the factory does not have.
    """
    method = _name_of_factory(method) or method
    if not isinstance(method, str):
        if _is_solver(method):
            if options:
                raise OptionError(f"options {sorted(options)} belong into the configured solver itself: {method!r}.")
            solver: Solver = method
            return solver
        raise OptionError(
            f"method must be a name or a solver with init, ask, tell, status and recommend, got {method!r}."
        )
    from vamo_bbo.scipy_layer.methods import METHODS as FOREIGN
    from vamo_bbo.solvers import METHODS

    name = method.lower().replace("_", "-")
    if name in METHODS:
        return _configure(name, METHODS[name], options)
    names = [*METHODS, "auto", *(m.lower() for m in FOREIGN)]
    hint = close_matches(name, names) or f"; known are {', '.join(names)}."
    raise OptionError(f"Unknown solver {method}{hint}")


def _configure(name: str, factory: Callable[..., Solver], options: Mapping[str, Any]) -> Solver:
    known = list(inspect.signature(factory).parameters)
    for key in options:
        if key not in known:
            names = [*known, "maxiter", "disp"]
            hint = close_matches(key, names) or "."
            raise OptionError(f"method {name!r} has no option {key!r}{hint} It has: {', '.join(names)}.")
    return factory(**options)
