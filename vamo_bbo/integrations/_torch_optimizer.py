"""PyTorch optimizers over the composed solvers: one core, driven from a training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np

from vamo_bbo.integrations._torch_layout import Layout  # first: it says what to install where PyTorch is missing

# isort: split
import torch

from vamo_bbo._errors import EvaluationError, OptionError, StateError
from vamo_bbo._typing import AnyDirection, Array, Direction, IndexArray, Law
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.kronecker import Kronecker
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.objective import Objective
from vamo_bbo.sketch import Preconditioner
from vamo_bbo.solvers import vamo
from vamo_bbo.solvers.vamo import Control

__all__ = ["VAMO", "SolverOptimizer"]

Closure = Callable[[torch.Tensor], torch.Tensor]
"""``closure(idx)``: losses, shape (len(idx),), of the samples ``idx`` at the present parameters."""


def _drawn(undo: Iterable[tuple[float, AnyDirection]]) -> list[tuple[float, Direction]]:
    """Return the update as it is; composed solvers undo only drawn directions."""
    return [(c, u) for c, u in undo if isinstance(u, Direction)]


class SolverOptimizer(torch.optim.Optimizer):
    """Any composed solver of this package as a PyTorch optimizer.

    The parameters become views of the solver's iterate, so model and solver hold one copy of them.

    Parameters
    ----------
    params : iterable of parameters
        Trained together, as one group; all float32 or all float64. Those with ``requires_grad=False`` are left out.
    solver : Composite
        Such as ``vb.zo_sgd(n_directions=4)`` or ``vb.svrg()``; its own ``learning_rate`` gives way to ``lr``.
    n_samples : int
        Number of training samples: ``closure`` gets indices below it.
    lr : float, optional
        Learning rate, ``param_groups[0]["lr"]``, read at every step, so that PyTorch's schedulers work. None uses the
        solver's, or its automatic first step.
    per_sample : bool, default True
        Whether ``closure`` returns one loss per sample; False if it returns their mean (fixed batches are then used).
    chunk_size : int, default 1024
        Most samples that ``closure`` is asked for at once, in a full pass: it bounds the activations.
    seed : int, default 0
        Of batches and directions.
    backend : {"auto", "numpy", "numba"}
        Who computes directions.

    Attributes
    ----------
    nfev_samples, njev_samples : int
        Sample losses and sample gradients evaluated so far.

    Raises
    ------
    OptionError
        Several parameter groups, options of a group other than ``lr``, no parameter, mixed dtypes, or a ``solver`` that
        is none.

    Notes
    -----
    Call no ``backward``: gradients are taken by ``step``, and ``.grad`` is not touched. A loss that is NaN takes its
    sample out; a batch that fails as a whole brings the last good point back with half the step.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> inputs = torch.linspace(-1, 1, 64)[:, None]
    >>> line = torch.nn.Linear(1, 1)
    >>> optimizer = SolverOptimizer(line.parameters(), vb.sgd(batch_size=8), n_samples=64, lr=0.2)
    >>> for _ in range(200):
    ...     _ = optimizer.step(lambda idx: (line(inputs[idx]) - 3 * inputs[idx]).square().sum(1))
    >>> round(line.weight.item(), 3)
    3.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        solver: Composite,
        *,
        n_samples: int,
        lr: float | None = None,
        per_sample: bool = True,
        chunk_size: int = 1024,
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        self._state: State | None = None
        if not callable(getattr(solver, "ask", None)):
            raise OptionError(f"solver must be one of this package's, such as vb.sgd() or vb.vamo(); got {solver!r}.")
        super().__init__(params, {"lr": lr})
        self._layout = Layout(p for p in self.param_groups[0]["params"] if p.requires_grad)
        self.solver = self._for_shapes(solver, [tuple(p.shape) for p in self._layout.parameters])
        self.nfev_samples = 0
        self.njev_samples = 0
        finite = FiniteSum(
            self._losses, n_samples, value_and_grad=self._value_and_grad, check_grad=False, chunk_size=chunk_size
        )
        x0 = self._layout.array()
        self._objective = Objective(finite, size=x0.size, dtype=x0.dtype)
        self._objective.declare(per_sample=per_sample)
        self._scratch: Array | None = None
        self._gradient: torch.Tensor | None = None
        self._state = self._configured().init(x0, seed=seed, backend=backend, info=self._objective.info)
        self._show(self._state.arrays["x"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take the one group of parameters; a second one is refused."""
        if self.param_groups:
            raise OptionError("SolverOptimizer trains one group of parameters: concatenate them into one list.")
        other = sorted(set(param_group) - {"params", "lr"})
        if other:
            raise OptionError(f"A group's one option is 'lr', got {', '.join(other)}; weight decay belongs in a loss.")
        super().add_param_group(param_group)

    def _for_shapes(self, solver: Composite, shapes: list[tuple[int, ...]]) -> Composite:
        """Return the solver for parameters of these shapes."""
        return solver

    def _configured(self) -> Composite:
        """Return the solver with the group's present learning rate."""
        lr = self.param_groups[0]["lr"]
        if lr is None:
            return self.solver
        rule: Any = self.solver.rule
        return replace(self.solver, rule=replace(rule, learning_rate=float(lr)))

    def step(self, closure: Closure | None = None) -> float:
        """Take one step of the solver, a snapshot included where one is due.

        Parameters
        ----------
        closure : callable ``closure(idx) -> losses``
            Losses of the samples ``idx``, an int64 tensor, at the present parameters, shape (len(idx),).

        Returns
        -------
        float
            Mean loss of the last evaluated batch, before the step.

        Raises
        ------
        OptionError
            No closure, or one that returns the wrong shape.
        EvaluationError
            The loss was not finite in 20 attempts in a row.
        """
        if closure is None:
            raise OptionError("step needs closure(idx) -> losses of the samples idx.")
        state, solver = self._present(), self._configured()
        self._closure, last = closure, state.step
        try:
            while state.step == last:
                ending = solver.status(state)
                if ending is not None:
                    raise EvaluationError(ending.message)
                state = solver.tell(state, [self._evaluate(state, probe) for probe in solver.ask(state)])
        finally:
            del self._closure
            self._state = state
            self._show(state.arrays["x"])
        return self._loss

    def _present(self) -> State:
        """Return the state; on another device, with what was written to the parameters since."""
        assert self._state is not None
        if self._layout.device.type != "cpu":
            self._state.arrays["x"][...] = self._layout.array()
        return self._state

    def _evaluate(self, state: State, probe: Probe) -> Answer:
        """Return the answer to ``probe``; exceptions of the closure are bugs and pass through."""
        x = state.arrays[probe.anchor.name]
        if probe.direction is not None:
            if self._scratch is None:  # only methods that take differences need one
                self._scratch = np.empty_like(x)
            x = materialize(state, probe, self._scratch)
        objective = self._objective
        objective.exception = None
        answer = objective.evaluate(probe, x, state.seed)
        if objective.exception is not None:
            raise objective.exception
        if objective.mean_only and objective.info.per_sample:
            raise OptionError(
                "closure must return one loss per sample (reduction='none'); if it can only return their mean, pass "
                "per_sample=False."
            )
        if probe.want in ("gradient", "both"):
            self.njev_samples += answer.n_samples
        else:
            self.nfev_samples += answer.n_samples
        return answer

    def _show(self, x: Array) -> None:
        """Make the parameters views of ``x`` (on another device: of one copy)."""
        for parameter, part in zip(self._layout.parameters, self._layout.views(self._layout.tensor(x)), strict=True):
            parameter.data = part

    def _called(self, x: Array, idx: IndexArray) -> torch.Tensor:
        self._show(x)
        losses = self._closure(torch.tensor(idx))
        if not isinstance(losses, torch.Tensor):
            raise OptionError(f"closure must return a tensor, the losses of the samples idx; got {losses!r}.")
        if losses.shape not in ((len(idx),), ()):
            raise OptionError(
                f"closure must return the losses of the samples idx, shape ({len(idx)},), got {tuple(losses.shape)}."
            )
        self._loss = float(losses.detach().mean())
        return losses

    def _losses(self, x: Array, idx: IndexArray) -> Array:
        with torch.no_grad():
            return cast("Array", self._called(x, idx).cpu().numpy())

    def _value_and_grad(self, x: Array, idx: IndexArray) -> tuple[Array, Array]:
        with torch.enable_grad():
            losses = self._called(x, idx)
            if not losses.requires_grad:
                raise OptionError("closure must return losses that depend on the parameters: no detach, no no_grad.")
            grad = self._backward(losses.mean())
        return losses.detach().cpu().numpy(), grad.cpu().numpy()

    def _backward(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the flat gradient: autograd adds into views of one vector, and ``.grad`` is as it was afterwards."""
        layout = self._layout
        if self._gradient is None:
            self._gradient = torch.empty(sum(layout.sizes), dtype=layout.dtype, device=layout.device)
        self._gradient.zero_()
        kept = [p.grad for p in layout.parameters]
        try:
            for parameter, part in zip(layout.parameters, layout.views(self._gradient), strict=True):
                parameter.grad = part
            torch.autograd.backward(loss, inputs=layout.parameters)
        finally:
            for parameter, grad in zip(layout.parameters, kept, strict=True):
                parameter.grad = grad
        return self._gradient

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state as tensors and plain values; the parameters are the module's to save."""
        state = self._present()
        arrays = {name: torch.tensor(array) for name, array in state.arrays.items() if name != "x"}
        # Only what torch.load(weights_only=True) accepts: the law and the tag are enumerations.
        undo = [(c, (int(u.law), u.step, u.index, u.count, int(u.tag), u.mask)) for c, u in _drawn(state.undo)]
        inner = {
            "seed": state.seed,
            "step": state.step,
            "phase": state.phase,
            "arrays": arrays,
            "scalars": dict(state.scalars),
            "versions": dict(state.versions),
            "undo": undo,
            "counts": (self.nfev_samples, self.njev_samples),
        }
        return {**super().state_dict(), "solver": inner}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; load the module's parameters first.

        Raises
        ------
        StateError
            The state belongs to another solver or another number of parameters.
        """
        inner = state_dict.get("solver")
        state = self._present()
        kept = {name: array.shape for name, array in state.arrays.items() if name != "x"}
        if inner is None or {k: tuple(v.shape) for k, v in inner["arrays"].items()} != kept:
            raise StateError("This state belongs to another solver, or to parameters of another size.")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "solver"})
        for name, tensor in inner["arrays"].items():
            state.arrays[name][...] = tensor.numpy()
        state.seed, state.step, state.phase, state.attempt = inner["seed"], inner["step"], inner["phase"], 0
        state.scalars = dict(inner["scalars"])
        state.versions = dict(inner["versions"])
        state.undo = tuple((c, Direction(Law(u[0]), *u[1:])) for c, u in inner["undo"])
        state.inbox.clear()
        state.cache.clear()
        self.nfev_samples, self.njev_samples = inner["counts"]


class VAMO(SolverOptimizer):
    r"""VAMO as a PyTorch optimizer: :func:`vamo_bbo.vamo` over the parameters of a module.

    Without ``lr`` nothing is to be tuned: the step size is measured, in a metric of its own for every layer
    (:class:`~vamo_bbo.Kronecker`).

    Parameters
    ----------
    params : iterable of parameters
        Trained together, as one group; all float32 or all float64.
    lr : float, optional
        Learning rate; None measures it.
    n_samples : int
        Number of training samples.
    control, coefficient, memory, batch_size, n_directions, smoothing, mixing, law, epoch_length
        As in :func:`vamo_bbo.vamo`.
    preconditioner : {"auto", "guided", "diagonal", "none"} or Preconditioner
        As in :func:`vamo_bbo.vamo`, but "auto" is the metric per layer where the step size is measured.
    per_sample, chunk_size, seed, backend
        As in :class:`SolverOptimizer`.

    Notes
    -----
    A step is one gradient of its batch; a measured step adds about eight a pass and the losses of a fiftieth of the
    samples. Memory beyond the module: about ten vectors, the metric (:class:`~vamo_bbo.Kronecker`), and the last
    gradient of every batch where those fit into ``memory``. The parameters are the last iterate, not an average.

    With the value table (``control="values"``, or one of its options: n_directions, smoothing, mixing, law,
    epoch_length), ``step`` evaluates all samples ``n_directions + 1`` times once per ``epoch_length`` steps (default:
    one pass) without gradients, and keeps ``n_samples * n_directions`` float64.

    References
    ----------
    J. Chen, Z. Ma, "VAMO: efficient zeroth-order variance reduction for SGD with faster convergence", 2025, arXiv
    2505.13954; deviations in :func:`vamo_bbo.vamo`.

    Examples
    --------
    >>> inputs = torch.linspace(-1, 1, 64)[:, None]
    >>> line = torch.nn.Linear(1, 1)
    >>> optimizer = VAMO(line.parameters(), n_samples=64)
    >>> for _ in range(200):
    ...     _ = optimizer.step(lambda idx: (line(inputs[idx]) - 3 * inputs[idx]).square().sum(1))
    >>> round(line.weight.item(), 3)
    3.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | None = None,
        *,
        n_samples: int,
        control: Control = "auto",
        preconditioner: Literal["auto", "guided", "diagonal", "none"] | Preconditioner = "auto",
        coefficient: float | Literal["adaptive"] = "adaptive",
        memory: float = 2**30,
        batch_size: int | None = None,
        n_directions: int | None = None,
        smoothing: float | None = None,
        mixing: float | Literal["paper", "optimal", "directions", "vector"] | None = None,
        law: str | Law | None = None,
        epoch_length: int | None = None,
        per_sample: bool = True,
        chunk_size: int = 1024,
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        self._make = partial(
            vamo,
            lr,
            control=control,
            coefficient=coefficient,
            averaging=None,
            memory=memory,
            n_directions=n_directions,
            smoothing=smoothing,
            mixing=mixing,
            law=law,
            epoch_length=epoch_length,
            batch_size=batch_size,
        )
        self._layers = lr is None and preconditioner == "auto"
        super().__init__(
            params,
            self._make(preconditioner=preconditioner),
            n_samples=n_samples,
            lr=lr,
            per_sample=per_sample,
            chunk_size=chunk_size,
            seed=seed,
            backend=backend,
        )

    def _for_shapes(self, solver: Composite, shapes: list[tuple[int, ...]]) -> Composite:
        """Return the solver with the metric per layer unless another was asked for."""
        return self._make(preconditioner=Kronecker(shapes)) if self._layers else solver
