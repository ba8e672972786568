r"""Step rules: how an estimate v moves the iterate x, elementwise.

Every rule takes ``learning_rate=None``: the first step then has root mean square :data:`FIRST_STEP` in units of
``x_scale``. For rules that are linear in v this needs the size of v, which the first rounds of a run calibrate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array
from vamo_bbo.core.calibration import FIRST_STEP
from vamo_bbo.core.solver import Context
from vamo_bbo.schedules import Constant, Schedule

__all__ = ["AdaMM", "Adam", "Descent", "Momentum", "Sign"]


def _check(learning_rate: float | None, epsilon: float = 1.0, **shares: float) -> None:
    if not epsilon > 0:
        raise OptionError(f"epsilon must be positive, got {epsilon!r}.")
    if learning_rate is not None and not learning_rate > 0:
        raise OptionError(f"learning_rate must be positive or None, got {learning_rate!r}.")
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise OptionError(f"{name} must satisfy 0 <= {name} < 1, got {value!r}.")


def _first_step(learning_rate: float | None) -> float:
    """Return the step size of a rule whose steps have the same length whatever the size of v."""
    return FIRST_STEP if learning_rate is None else learning_rate


def _step_size(base: float | None, schedule: Schedule, ctx: Context) -> float:
    """Return base (or calibrated) step size times schedule, damping left by failures, and what steps have taught."""
    scalars = ctx.scalars
    rate = scalars["learning_rate"] if base is None else base
    return rate * schedule(ctx.step, scalars["progress"]) * scalars["damping"] * scalars["growth"]


@dataclass(frozen=True, slots=True)
class Descent:
    """``x <- x - learning_rate * schedule * v``; linear, so it is fused with the regeneration of directions.

    Parameters
    ----------
    learning_rate : float, optional
        Step size; None calibrates it.
    schedule : Schedule
        Factor over time.
    normalized : bool, default False
        Divide v by its root mean square, so that ``learning_rate`` is the rms of the step.

    Examples
    --------
    >>> Descent(0.1).linear
    True
    """

    learning_rate: float | None = None
    schedule: Schedule = field(default_factory=Constant)
    normalized: bool = False
    slots: tuple[str, ...] = field(default=(), init=False)
    linear: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _check(self.learning_rate)

    @property
    def reductions(self) -> tuple[str, ...]:
        """The estimate's size, if the step is normalized."""
        return ("rms",) if self.normalized else ()

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the step size."""
        if not self.normalized:
            return {"learning_rate": _step_size(self.learning_rate, self.schedule, ctx)}
        rms = reductions["rms"]
        return {
            "learning_rate": _step_size(_first_step(self.learning_rate), self.schedule, ctx) / rms if rms > 0 else 0.0
        }

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Move one tile (the composite fuses this step instead of calling it)."""
        x -= x.dtype.type(scalars["learning_rate"]) * g


@dataclass(frozen=True, slots=True)
class Momentum:
    """``m <- momentum m + v; x <- x - learning_rate m`` (Polyak's heavy ball).

    Parameters
    ----------
    learning_rate : float, optional
        Step size; None calibrates it.
    momentum : float, default 0.9
        Share of the last step that is kept.
    schedule : Schedule
        Factor over time.

    Examples
    --------
    >>> Momentum(0.1).slots
    ('momentum',)
    """

    learning_rate: float | None = None
    momentum: float = 0.9
    schedule: Schedule = field(default_factory=Constant)
    slots: tuple[str, ...] = field(default=("momentum",), init=False)
    linear: bool = field(default=False, init=False)
    reductions: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        _check(self.learning_rate, momentum=self.momentum)

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the step size."""
        return {"learning_rate": _step_size(self.learning_rate, self.schedule, ctx)}

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Move one tile."""
        m = slots["momentum"]
        m *= m.dtype.type(self.momentum)
        m += g
        x -= x.dtype.type(scalars["learning_rate"]) * m


@dataclass(frozen=True, slots=True)
class Adam:
    """Adam with bias correction (Kingma & Ba, "Adam: a method for stochastic optimization", 2015, Algorithm 1).

    Parameters
    ----------
    learning_rate : float, optional
        Step size; None means :data:`FIRST_STEP`, the size of Adam's first step in every coordinate.
    beta1, beta2 : float, default 0.9, 0.999
        Decay of the first and second moment; the paper's values.
    epsilon : float, default 1e-8
        Added to the root of the second moment; the paper's value.
    schedule : Schedule
        Factor over time.
    weight_decay : float, default 0
        Decoupled decay: every step first multiplies x by ``1 - learning_rate weight_decay`` (Loshchilov & Hutter,
        "Decoupled weight decay regularization", ICLR 2019, arXiv 1711.05101, Algorithm 2, AdamW).

    Examples
    --------
    >>> Adam().slots
    ('m', 'v')
    """

    learning_rate: float | None = None
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    schedule: Schedule = field(default_factory=Constant)
    weight_decay: float = 0.0
    slots: tuple[str, ...] = field(default=("m", "v"), init=False)
    linear: bool = field(default=False, init=False)
    reductions: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.epsilon, beta1=self.beta1, beta2=self.beta2)
        if not self.weight_decay >= 0:
            raise OptionError(f"weight_decay must be at least 0, got {self.weight_decay!r}.")

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the step size and the two bias corrections."""
        count = ctx.step + 1
        return {
            "learning_rate": _step_size(_first_step(self.learning_rate), self.schedule, ctx),
            "correction1": 1.0 - self.beta1**count,
            "correction2": 1.0 - self.beta2**count,
        }

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Move one tile."""
        m, v, real = slots["m"], slots["v"], x.dtype.type
        m += real(1.0 - self.beta1) * (g - m)
        v += real(1.0 - self.beta2) * (g * g - v)
        if self.weight_decay:
            x *= real(1.0 - scalars["learning_rate"] * self.weight_decay)
        root = xp.sqrt(v / real(scalars["correction2"])) + real(self.epsilon)
        x -= real(scalars["learning_rate"] / scalars["correction1"]) * m / root


@dataclass(frozen=True, slots=True)
class AdaMM:
    """AMSGrad's step as used by ZO-AdaMM (Chen et al., "ZO-AdaMM", NeurIPS 2019, Algorithm 1).

    ``m <- beta1 m + (1 - beta1) v; s <- beta2 s + (1 - beta2) v^2; r <- max(r, s); x <- P(x - learning_rate m /
    sqrt(r))`` without bias correction; with a box and a diagonal metric the projection P is a clip.

    Parameters
    ----------
    learning_rate : float, optional
        Step size; None means :data:`FIRST_STEP`.
    beta1, beta2 : float, default 0.9, 0.99
        Decay of the first and second moment. Our choice: with them the first step is ``learning_rate`` in every
        coordinate, since (1 - beta1) / sqrt(1 - beta2) = 1.
    epsilon : float, default 1e-12
        Added to sqrt(r), against a division by zero.
    schedule : Schedule
        Factor over time.

    Examples
    --------
    >>> AdaMM().slots
    ('m', 'v', 'v_max')
    """

    learning_rate: float | None = None
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-12
    schedule: Schedule = field(default_factory=Constant)
    slots: tuple[str, ...] = field(default=("m", "v", "v_max"), init=False)
    linear: bool = field(default=False, init=False)
    reductions: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.epsilon, beta1=self.beta1, beta2=self.beta2)

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the step size."""
        return {"learning_rate": _step_size(_first_step(self.learning_rate), self.schedule, ctx)}

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Move one tile."""
        m, v, top, real = slots["m"], slots["v"], slots["v_max"], x.dtype.type
        m += real(1.0 - self.beta1) * (g - m)
        v += real(1.0 - self.beta2) * (g * g - v)
        xp.maximum(top, v, out=top)
        x -= real(scalars["learning_rate"]) * m / (xp.sqrt(top) + real(self.epsilon))


@dataclass(frozen=True, slots=True)
class Sign:
    """``x <- x - learning_rate * schedule * sign(v)``.

    Parameters
    ----------
    learning_rate : float, optional
        Step size; None means :data:`FIRST_STEP`.
    schedule : Schedule
        Factor over time.

    Examples
    --------
    >>> Sign(0.1).linear
    False
    """

    learning_rate: float | None = None
    schedule: Schedule = field(default_factory=Constant)
    slots: tuple[str, ...] = field(default=(), init=False)
    linear: bool = field(default=False, init=False)
    reductions: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        _check(self.learning_rate)

    def scalars(self, ctx: Context, reductions: Mapping[str, float]) -> dict[str, float]:
        """Return the step size."""
        return {"learning_rate": _step_size(_first_step(self.learning_rate), self.schedule, ctx)}

    def update(self, xp: Any, g: Array, x: Array, slots: Mapping[str, Array], scalars: Mapping[str, float]) -> None:
        """Move one tile."""
        x -= x.dtype.type(scalars["learning_rate"]) * xp.sign(g)
