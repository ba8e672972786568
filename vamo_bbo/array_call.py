"""From a call with another library's arrays to one on the solver's own, and back.

PyTorch tensors and everything else that speaks DLPack stay what they are for the user: ``fun`` receives the kind of
array that ``x0`` is, sharing memory with the solver's own. On the CPU that is NumPy, on a CUDA device CuPy.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vamo_bbo import backends
from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array
from vamo_bbo.problem import FiniteSum

__all__ = ["Kind", "kind_of", "minimize_arrays"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of array: how it comes in and goes out.

    Attributes
    ----------
    library : str
        Module that has ``from_dlpack``; "numpy" for host arrays of a run on the device.
    name : str
        Type of ``x0``, for messages.
    device : bool
        Whether the solver's arrays are on a CUDA device.
    """

    library: str
    name: str
    device: bool

    def incoming(self, x: Any) -> Array:
        """Return ``x`` as the solver's kind of array, in the memory it has where that is possible."""
        if hasattr(x, "detach"):  # a tensor that autograd follows cannot be handed over
            x = x.detach()
        if self.device:
            return backends.to_device(x)
        try:
            return np.asarray(x) if isinstance(x, (np.ndarray, float, int, list)) else np.from_dlpack(x)
        except (TypeError, BufferError, RuntimeError) as error:
            raise OptionError(
                f"an array of type {self.name} cannot be read as a NumPy array: {str(error).rstrip('.')}."
            ) from error

    def outgoing(self, z: Array) -> Any:
        """Return the solver's array ``z`` as the user's kind, without a copy where that is possible."""
        if self.library == "numpy":
            return backends.get("cupy").xp.asnumpy(z)
        if isinstance(z, np.ndarray) and not self.device and not z.flags.writeable:
            z = z.copy()  # DLPack cannot say that an array is read-only
        return importlib.import_module(self.library).from_dlpack(z)

    def host(self, value: Any) -> Any:
        """Return a scalar or the losses of a batch as a float or a host array."""
        if isinstance(value, (float, int, np.generic)):
            return value
        value = backends.to_host(self.incoming(value))
        return float(value) if value.ndim == 0 else value


def kind_of(x0: Any, backend: str) -> Kind | None:
    """Return the kind of a start that is not the solver's own kind of array, else None.

    Examples
    --------
    >>> kind_of([1.0, 2.0], "auto") is None
    True
    """
    if backends.on_device(x0):
        if backend not in ("auto", "cupy"):
            raise OptionError(f"x0 is on a CUDA device, where backend must be 'auto' or 'cupy', got {backend!r}.")
        own = isinstance(x0, backends.get("cupy").xp.ndarray)
        return None if own else Kind(_library(x0), type(x0).__name__, True)
    if isinstance(x0, np.ndarray) or not hasattr(x0, "__dlpack__"):
        return Kind("numpy", "ndarray", True) if backend == "cupy" else None
    if backend == "cupy":
        raise OptionError(f"backend='cupy' needs an x0 on a CUDA device or a NumPy array, got a {type(x0).__name__}.")
    return Kind(_library(x0), type(x0).__name__, False)


def _library(x: Any) -> str:
    """Return the module of ``x``'s library that has ``from_dlpack``."""
    root = type(x).__module__.partition(".")[0]
    for name in (root, f"{root}.numpy", "jax.numpy"):
        try:
            if hasattr(importlib.import_module(name), "from_dlpack"):
                return name
        except ImportError:
            continue
    raise OptionError(f"x0 is a {type(x).__name__}, whose library has no from_dlpack; pass a NumPy array.")


@dataclass(frozen=True, slots=True)
class _Function:
    """A user's function of a point (and of sample indices) on the solver's arrays."""

    user: Callable[..., Any]
    kind: Kind
    result: str
    arrays: int = 1

    def __call__(self, *args: Any) -> Any:
        kind = self.kind
        given = [kind.outgoing(a) for a in args[: self.arrays]]
        value = self.user(*given, *args[self.arrays :])
        if self.result == "gradient":
            return kind.incoming(value)
        if self.result == "both" and isinstance(value, tuple) and len(value) == 2:
            return kind.host(value[0]), kind.incoming(value[1])
        return kind.host(value)


def _sum(problem: FiniteSum, kind: Kind) -> FiniteSum:
    """Return the finite sum on the solver's arrays."""

    def adapt(user: Any, result: str) -> Any:
        return None if user is None else _Function(user, kind, result, 2)

    return replace(
        problem,
        losses=adapt(problem.losses, "value"),
        grad=adapt(problem.grad, "gradient"),
        value_and_grad=adapt(problem.value_and_grad, "both"),
    )


def _callback(callback: Callable[..., Any] | None, kind: Kind) -> Callable[..., Any] | None:
    """Return the callback that is given the user's kind of point."""
    if callback is None:
        return None

    @functools.wraps(callback)
    def call(*args: Any, **keywords: Any) -> Any:
        if "intermediate_result" in keywords:
            result = keywords["intermediate_result"]
            result.x = kind.outgoing(result.x)
        return callback(*(kind.outgoing(a) for a in args), **keywords)

    return call


def minimize_arrays(kind: Kind, arguments: dict[str, Any], minimize: Callable[..., Any]) -> Any:
    """Call ``minimize`` with arrays of the solver's kind, and return its result with the user's.

    Parameters
    ----------
    kind : Kind
        What ``x0`` is.
    arguments : dict
        The arguments of the user's call.
    minimize : callable
        :func:`vamo_bbo.minimize`.
    """
    call = dict(arguments)
    fun, jac = call["fun"], call["jac"]
    if isinstance(fun, FiniteSum):
        call["fun"] = _sum(fun, kind)
    elif callable(fun):
        call["fun"] = _Function(fun, kind, "both" if jac is True else "value")
    if callable(jac):
        call["jac"] = _Function(jac, kind, "gradient")
    call["x0"], call["callback"] = kind.incoming(call["x0"]), _callback(call["callback"], kind)
    if kind.device:
        call["backend"] = "auto"
    result = minimize(**call)
    for name in ("x", "best_x", "jac"):
        if result.get(name) is not None:
            result[name] = kind.outgoing(result[name])
    return result
