"""What :class:`~vamo_bbo.optimizer.Optimizer` hands out, and the check of what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, IndexArray
from vamo_bbo.core.types import Answer, ProbeId
from vamo_bbo.run import outputs
from vamo_bbo.run.objective import Objective

__all__ = ["Trial", "answer_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A request to evaluate the objective once.

    Attributes
    ----------
    id : tuple of 4 ints
        Identity within the run; it survives pickling and JSON.
    x : (d,) array
        Where.
    idx : (b,) int64 array or None
        On which samples of a finite sum; None for all, or for an objective that is no sum.
    want : {"value", "values", "gradient", "both"}
        What: the value (mean over ``idx``), per-sample values, the mean gradient, values and gradient.
    params : dict or None
        The parameters, where a :class:`~vamo_bbo.space.Space` is searched.
    """

    id: ProbeId
    x: Array
    idx: IndexArray | None = None
    want: str = "value"
    params: dict[str, Any] | None = None


def answer_of(trial: Trial, value: Any, objective: Objective) -> Answer:
    """Return the checked answer of a trial; see :meth:`vamo_bbo.optimizer.Optimizer.tell`.

    Raises
    ------
    OptionError
        The value has the wrong shape.
    """
    n = objective.info.n_samples
    count = 1 if n is None else n if trial.idx is None else len(trial.idx)
    if value is None or isinstance(value, BaseException):
        line = "no value" if value is None else f"{type(value).__name__}: {value}".partition("\n")[0]
        return Answer(trial.id, error=line, n_samples=count)
    raw_value, raw_gradient = value, None
    if trial.want == "gradient":
        raw_value, raw_gradient = None, value
    elif trial.want == "both":
        if not isinstance(value, tuple) or len(value) != 2:
            raise OptionError("tell: a trial that wants 'both' needs a pair (value, gradient).")
        raw_value, raw_gradient = value
    mean, values = math.nan, None
    error: str | None = None
    if raw_value is not None:
        losses = outputs.scalar(raw_value) if n is None else outputs.losses(raw_value, count)
        mean = losses if isinstance(losses, float) else float(np.mean(losses))
        values = None if isinstance(losses, float) or trial.want != "values" else losses
        error = outputs.trouble(mean)
    grad = None
    if raw_gradient is not None:
        user = outputs.gradient("tell", raw_gradient, objective.user_size, objective.dtype)
        grad = objective.scaling.gradient(user)
        error = error or (None if np.isfinite(grad).all() else "the gradient is not finite")
    return Answer(trial.id, mean, values, grad, count, error)
