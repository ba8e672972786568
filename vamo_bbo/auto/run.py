"""One run of ``method="auto"``: a look at x0, the choice, and what is chosen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds

from vamo_bbo._typing import Array
from vamo_bbo.auto.choice import Choice, choose, few_and_dear
from vamo_bbo.auto.constrained import is_modelled, run_modelled, run_noisy_constrained
from vamo_bbo.auto.descent import DESCENTS
from vamo_bbo.auto.gradients import FirstGradients
from vamo_bbo.auto.noisy import MODELS, run_noisy
from vamo_bbo.auto.rounds import generation_of, points_of_a_round
from vamo_bbo.auto.smooth import PAIRS, descend, model_in_a_box
from vamo_bbo.auto.space import differs, run_space
from vamo_bbo.auto.trail import Trail, by_gradients
from vamo_bbo.auto.units import Look, find_units, steps_in
from vamo_bbo.problem import FiniteSum
from vamo_bbo.projection import start_within
from vamo_bbo.run.fixed import Fixed
from vamo_bbo.run.outputs import number
from vamo_bbo.run.setup import check_fun, parse_bounds, parse_x0, scale_of
from vamo_bbo.run.stop import Budget, Code
from vamo_bbo.scipy_layer.methods import stopped
from vamo_bbo.scipy_layer.objective import StopRun, Watched
from vamo_bbo.scipy_layer.wrappers import limits, violation_of

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["run_auto"]

_PROBE_FROM = 10
"""The second value at x0, and what units would take, are left out below this budget."""
_FEW = 10_000
"""Most variables of which L-BFGS-B remembers more than scipy's ten steps."""


def run_auto(call: Call) -> Any:
    """Choose a method, run it, and say so in the message."""
    from vamo_bbo.minimize import run_ours

    check_fun(call.fun)
    # what no method can use is refused before anything is evaluated
    limits = parse_bounds(call.bounds, parse_x0(call.x0).size)
    if not isinstance(call.bounds, Bounds):
        call.bounds = None if limits is None else Bounds(*limits)
    _, lower, upper = _within(call)
    if lower is not None and upper is not None and (lower == upper).all():
        call.options = {name: call.options[name] for name in ("maxiter", "disp") if name in call.options}
        return run_ours(call, Fixed())
    scale_of(call.x_scale, call.size, None)
    plain = not isinstance(call.fun, FiniteSum) and not call.has_gradient
    looks = _affords_a_look(call, "maxfev") or (call.space and few_and_dear(call))
    if plain and not call.needs_ours and looks:
        choice, result = _run_watched(call)
    else:
        choice, result = _run_by_name(call)
    if choice is not None:
        result.message = f"auto chose {choice.method} ({choice.reason}): {result.message}"
    return result


def _run_watched(call: Call) -> tuple[Choice | None, Any]:
    """Look at values around x0, choose, and go on with the same counts; no choice where the look has ended the run."""
    start = start_within(call) if is_modelled(call) else None
    if start is not None:
        call.x0 = start.astype(parse_x0(call.x0).dtype)
    noisy, given = bool(call.noisy), scale_of(call.x_scale, call.size, None)
    watched, args, x0 = _watch(call)
    try:
        if call.space and few_and_dear(call):
            noisy = differs(call, watched, x0, twice=_affords_a_look(call, "maxfev"))
        elif call.noisy is not False:
            noisy = watched.differs_at(x0, args) or noisy
        choice = choose(call, noisy, within=start is not None)
        look = _look(call, choice, watched, x0, noisy, given)
    except StopRun as stop:
        return None, stopped(watched, x0, stop.code, stop.detail)
    except KeyboardInterrupt:
        if watched.best_x is None:
            raise
        return None, stopped(watched, x0, Code.INTERRUPTED)
    call.noisy = call.noisy or noisy
    if start is not None:
        call.x_scale = None
        return choice, run_modelled(call, watched, x0, noisy, given)
    if noisy and choice.method == "COBYQA" and call.constrained and given is None:
        return choice, run_noisy_constrained(call, watched)
    if choice.method == "bayes":
        return choice, run_space(call, watched, noisy)
    if noisy and choice.method in MODELS and not call.constrained:
        call.x_scale = None
        return choice, run_noisy(call, watched, look.units)
    if choice.method in DESCENTS:
        call.x_scale = None
        return choice, descend(call, watched, look)
    if choice.method == "interpolation":
        call.x_scale = None
        return choice, model_in_a_box(call, watched, look)
    return choice, _run_after_a_look(call, choice, watched, look)


def _run_after_a_look(call: Call, choice: Choice, watched: Watched, look: Look) -> Any:
    """Run a method that counts anew, and add what the look has cost."""
    from vamo_bbo.minimize import run_call

    call.x_scale = look.units
    if choice.method == "cma" and call.levels is None:
        call.options = {"population_size": generation_of(call), **call.options}
    if call.limits.get("maxfev") is not None:
        call.limits = {**call.limits, "maxfev": call.limits["maxfev"] - watched.nfev}
    result: Any = run_call(call, choice.method)
    _count_probe(result, watched, bool(call.noisy))
    return result


def _run_by_name(call: Call) -> tuple[Choice, Any]:
    """Choose without a look at values, at most by gradients at x0, and run the method as if it had been named."""
    from vamo_bbo.minimize import run_call

    noisy, gradients = bool(call.noisy), None
    x0, lower, upper = _within(call)
    given = scale_of(call.x_scale, call.size, None)
    if not isinstance(call.fun, FiniteSum) and call.has_gradient and _affords_a_look(call, "maxfev", "maxjev"):
        gradients = FirstGradients(call, x0)
        if _may_differ(call):
            noisy = gradients.differ()
    alone = gradients is not None and call.noisy is True and _is_ours_to_judge(call) and not gradients.differ()
    choice = choose(call, noisy and not alone)
    call.noisy = call.noisy or noisy
    if gradients is not None:
        if choice.method == "L-BFGS-B":
            call.x_scale = gradients.units(lower, upper) if given is None else call.x_scale
            gradients.hand_over()
        choice = choice._replace(gradients=gradients.spent)
    for name in ("maxjev", "maxfev") if gradients is not None and call.jac is True else ("maxjev",):
        if choice.gradients and call.limits.get(name) is not None:
            call.limits = {**call.limits, name: call.limits[name] - choice.gradients}
    if choice.method == "L-BFGS-B" and call.size <= _FEW:
        call.options = {"maxcor": PAIRS, **call.options}
    if choice.method == "interpolation" and given is None:
        assert lower is not None
        assert upper is not None
        call.x_scale = steps_in(x0, lower, upper)
        call.options = {"radius": 1.0 / max(1.0, float(np.abs(x0 / call.x_scale).max())), **call.options}
    if choice.method in ("bayes", "quadratic"):
        call.options = {"n_points": points_of_a_round(call), **call.options}
    trail = None
    if gradients is not None and choice.method == "L-BFGS-B" and _is_ours_to_judge(call) and not alone:
        trail = Trail(call)
    if alone:
        choice = choice._replace(reason="exact gradient, noisy values: by gradients alone")
    result: Any = by_gradients(call) if alone else run_call(call, choice.method)
    if choice.gradients:
        spent = 1 if gradients is None else gradients.spent
        result.njev, result.njev_samples = result.njev + spent, result.njev_samples + choice.gradients
        if call.jac is True:
            result.nfev, result.nfev_samples = result.nfev + spent, result.nfev_samples + spent
    return choice, result if trail is None else trail.go_on(call, result)


def _affords_a_look(call: Call, *names: str) -> bool:
    """Return whether these limits leave something to look at x0 with."""
    found = [call.limits.get(name) for name in names]
    return all(limit is None or limit >= _PROBE_FROM for limit in found)


def _watch(call: Call) -> tuple[Watched, tuple[Any, ...], Array]:
    """Return the counted objective, its arguments, and x0 within the bounds."""
    x0, lower, upper = _within(call)
    watched = Watched(
        call.fun,
        Budget(**call.limits),
        call.policy,
        violation=violation_of(call.constraints, lower, upper),
        vectorized=call.vectorized,
        lower=lower,
        upper=upper,
    )
    if call.known is not None:
        watched.offer_known(call.known.points, call.known.values)
    return watched, call.arguments, x0


def _within(call: Call) -> tuple[Array, Array | None, Array | None]:
    """Return x0 within the bounds, and these."""
    lower, upper = limits(call.bounds, call.x0)
    x0 = np.atleast_1d(np.asarray(call.x0))
    x0 = x0.astype(x0.dtype if x0.dtype in (np.float32, np.float64) else np.float64)
    if lower is not None and upper is not None:
        x0 = x0.clip(lower, upper)
    return x0, lower, upper


def _may_differ(call: Call) -> bool:
    """Return whether two gradients at x0 are to show if they are noisy: L-BFGS-B ends early on such, far off."""
    return call.noisy is None and _is_plain(call)


def _is_ours_to_judge(call: Call) -> bool:
    """Return whether the user leaves it to us how to go on: no constraint, no method's option, no service."""
    return _is_plain(call, "maxcor") and not call.vectorized


def _is_plain(call: Call, *more: str) -> bool:
    """Return whether there are no services, constraints or options, but for ``more`` and those of all methods."""
    return not (call.needs_ours or call.constrained or set(call.options) - {"maxiter", "disp", *more})


def _look(call: Call, choice: Choice, watched: Watched, x0: Array, noisy: bool, given: Array | None) -> Look:
    """Return what the method needs to know of the objective around x0; ``given`` are the units of the user."""
    from vamo_bbo.scipy_layer.call import mapper_of

    value = math.nan
    if choice.method in DESCENTS or choice.method == "interpolation":
        value = number(watched(x0.copy(), *call.arguments))
    own = choice.method in MODELS or (choice.method == "cma" and not _boxed(watched))
    if given is not None or call.constrained or call.space or not (own or choice.method in DESCENTS):
        return Look(value, given)
    with mapper_of(None if call.vectorized else call.workers) as mapper:
        watched.mapper = mapper
        return Look(value, *find_units(watched, x0, call.arguments, noisy))


def _boxed(watched: Watched) -> bool:
    """Return whether every variable has two bounds, which are the units of a population."""
    if watched.lower is None or watched.upper is None:
        return False
    return bool(np.isfinite(watched.lower).all() and np.isfinite(watched.upper).all())


def _count_probe(result: Any, watched: Watched, noisy: bool) -> None:
    """Add what was evaluated before the run to the result of one of our solvers."""
    result.nfev += watched.nfev
    result.nfev_samples += watched.nfev
    result.n_failed += watched.failures.count
    result.failures = [*watched.failures.records, *result.failures]
    if not noisy and watched.best_x is not None and watched.best_f < result.fun:
        result.x, result.fun = watched.best_x.astype(result.x.dtype), watched.best_f
