"""What determines the trajectory of a run, as plain data: a journal refuses to go on with anything else."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.run.failures import FailurePolicy
from vamo_bbo.run.setup import Setup

__all__ = ["describe", "difference", "fingerprint"]

SHOWN = 8
"""Elements up to which arrays are shown; longer ones are hashed."""


def describe(value: Any) -> Any:
    """Return ``value`` as JSON-ready data that is equal for equal configurations in any process.

    Examples
    --------
    >>> describe((1, 2.5, "a", None))
    [1, 2.5, 'a', None]
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value if not hasattr(value, "name") else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, (tuple, list)):
        return [describe(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    name = getattr(value, "__qualname__", None)
    if name is not None:  # a function or a class
        return f"{value.__module__}.{name}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if dataclasses.is_dataclass(value):
        return {"type": kind} | {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {"type": kind} | {k: describe(v) for k, v in sorted(getattr(value, "__dict__", {}).items())}


def _array(array: Array) -> Any:
    if array.size <= SHOWN:
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} array of shape {array.shape}, sha256 {digest}"


def difference(name: str, old: Any, new: Any) -> str:
    """Return the first difference between two descriptions of ``name`` in a clause.

    Examples
    --------
    >>> old, new = ({"type": "vb.Rule", "rate": {"type": "vb.Decay", "power": p}} for p in (0.1, 0.5))
    >>> difference("method", old, new)
    'method.rate.power was 0.1, now it is 0.5'
    >>> difference("method", old, {"type": "vb.Other"})
    'method was Rule, now it is Other'
    """
    if name == "rng":  # only the seeds made of it are known
        return "rng is another one; without rng the run goes on with the one it had"
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if keys and keys[0] != "type":
            return difference(f"{name}.{keys[0]}", old.get(keys[0]), new.get(keys[0]))
    return f"{name} was {_short(old)}, now it is {_short(new)}"


def _short(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        return str(value["type"]).rpartition(".")[2]
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def fingerprint(
    problem: Setup, solver: Any, seed: int, policy: FailurePolicy, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the facts that a resumed run must share with the journal's: everything but budgets and workers."""
    objective = problem.objective
    return {
        "method": describe(solver),
        "x0": _array(problem.x0),
        "dtype": str(objective.dtype),
        "bounds": None if problem.lower is None else [_array(problem.lower), describe(problem.upper)],
        "x_scale": describe(objective.scaling.scale),
        "n_samples": objective.info.n_samples,
        "gradient": objective.info.gradient,
        "known": None if objective.info.known_values is None else _array(objective.info.known_values),
        "noisy": objective.noise or objective.info.noisy,
        "rng": seed,
        "on_error": describe(policy.on_error),
        "retries": policy.retries,
        **{key: describe(value) for key, value in more.items()},
    }
