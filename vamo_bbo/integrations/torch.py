r"""PyTorch: any solver over a module's parameters, and VAMO as a ``torch.optim``-like optimizer.

Two ways in, over one core:

* :func:`finite_sum` turns a module, a data set and a per-sample loss into a :class:`~vamo_bbo.FiniteSum`, so that every
  method of ``minimize`` works on the flat vector of the module's trainable parameters.
* :class:`VAMO` and :class:`SolverOptimizer` sit in an ordinary training loop; ``step(closure)`` asks ``closure(idx)``
  for the losses of the samples ``idx``.

The flat vector is one NumPy array; on the CPU the module computes with views of it, so nothing is copied. Modules on
another device work too, through one transfer per evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from vamo_bbo.integrations._torch_layout import Layout  # first: it says what to install where PyTorch is missing

# isort: split
import numpy as np
import torch

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, IndexArray
from vamo_bbo.integrations._torch_optimizer import VAMO, SolverOptimizer
from vamo_bbo.problem import FiniteSum

__all__ = ["VAMO", "SolverOptimizer", "finite_sum", "load_vector", "parameter_vector"]

_RANDOM_LAYERS = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)


def _trainable(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def parameter_vector(module: torch.nn.Module) -> Array:
    """Return the trainable parameters of ``module`` as a new vector: the ``x0`` of ``minimize``.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters with ``requires_grad=False`` are left out; a shared parameter counts once.

    Returns
    -------
    (d,) float32 or float64 array
        In the order of ``module.named_parameters()``.

    Examples
    --------
    >>> parameter_vector(torch.nn.Linear(3, 2)).shape
    (8,)
    """
    layout = Layout(p for _, p in _trainable(module))
    return layout.array()


def load_vector(module: torch.nn.Module, x: Array) -> None:
    """Write the vector ``x``, shape (d,), to the trainable parameters of ``module``.

    Raises
    ------
    OptionError
        The length is not the number of trainable parameters.

    Examples
    --------
    >>> import numpy as np
    >>> line = torch.nn.Linear(1, 1)
    >>> load_vector(line, np.array([2.0, 1.0]))
    >>> line(torch.tensor([3.0])).item()
    7.0
    """
    layout = Layout(p for _, p in _trainable(module))
    x = np.asarray(x)
    if x.shape != (sum(layout.sizes),):
        raise OptionError(f"x must have shape ({sum(layout.sizes)},), the trainable parameters; got {x.shape}.")
    with torch.no_grad():
        for parameter, part in zip(layout.parameters, layout.views(layout.tensor(x)), strict=True):
            parameter.copy_(part)


def finite_sum(
    module: torch.nn.Module,
    dataset: Any,
    loss: Callable[[Any, Any], torch.Tensor],
    *,
    grad_cost: float = 3.0,
    check_grad: bool = True,
    chunk_size: int = 1024,
) -> FiniteSum:
    r"""Return :math:`f(x) = \frac1n \sum_i \mathrm{loss}(\mathrm{module}_x(a_i), y_i)` over a module's parameters.

    Parameters
    ----------
    module : torch.nn.Module
        It is only read: evaluations use ``torch.func.functional_call`` with views of x. Layers that are random or that
        mix samples while training (dropout, batch normalization) need ``module.eval()`` first.
    dataset : Dataset, or tuple of tensors
        Map-style data set of (input, target) pairs, or ``(inputs, targets)`` with samples along the first axis, which
        is faster (one indexing instead of a collation). A ``TensorDataset`` counts as the tuple.
    loss : callable ``loss(output, target) -> (batch,) tensor``
        Per-sample losses: ``torch.nn.CrossEntropyLoss(reduction="none")``, not the mean.
    grad_cost, check_grad, chunk_size
        As in :class:`~vamo_bbo.FiniteSum`; ``chunk_size`` bounds the activations of a full pass.

    Returns
    -------
    FiniteSum
        With ``losses`` and ``value_and_grad`` over ``x``, shape (d,) in the dtype of the parameters.

    Raises
    ------
    OptionError
        No trainable parameter, mixed dtypes, a loss that is reduced, a layer in training mode that has no per-sample
        loss, or a data set that is none of those above.

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> inputs = torch.linspace(-1, 1, 20)[:, None]
    >>> line = torch.nn.Linear(1, 1).double()
    >>> data = finite_sum(line, (inputs.double(), 3 * inputs.double()), lambda p, y: (p - y).square().sum(1))
    >>> result = vb.minimize(data, parameter_vector(line), method="L-BFGS-B")
    >>> load_vector(line, result.x)
    >>> round(line.weight.item(), 4)
    3.0
    """
    _refuse_random_layers(module)
    if getattr(loss, "reduction", "none") != "none":
        raise OptionError(f"loss must return one value per sample: use reduction='none', got {loss!r}.")
    model = _Model(module, dataset, loss)
    return FiniteSum(
        model.losses,
        model.n_samples,
        value_and_grad=model.value_and_grad,
        grad_cost=grad_cost,
        check_grad=check_grad,
        chunk_size=chunk_size,
    )


def _refuse_random_layers(module: torch.nn.Module) -> None:
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, _RANDOM_LAYERS) and getattr(layer, "p", 1.0) > 0:
            raise OptionError(
                f"module has no per-sample loss while layer {name!r} ({type(layer).__name__}) is in training mode; "
                "call module.eval() first."
            )


class _Model:
    """Module, data and loss as functions of the flat vector."""

    def __init__(self, module: torch.nn.Module, dataset: Any, loss: Callable[[Any, Any], torch.Tensor]) -> None:
        names, parameters = zip(*_trainable(module), strict=True) if any(_trainable(module)) else ((), ())
        self.module, self.loss, self.names = module, loss, names
        self.layout = Layout(parameters)
        self.dataset = dataset
        self.tensors = dataset if isinstance(dataset, tuple) else getattr(dataset, "tensors", None)
        _check_dataset(dataset, self.tensors)
        self.n_samples = len(dataset) if self.tensors is None else len(self.tensors[0])

    def losses(self, x: Array, idx: IndexArray) -> Array:
        """Return the losses of the samples ``idx``, (len(idx),)."""
        with torch.no_grad():
            return cast("Array", self._losses(self.layout.tensor(x), idx).cpu().numpy())

    def value_and_grad(self, x: Array, idx: IndexArray) -> tuple[Array, Array]:
        """Return the losses of the samples ``idx`` and the gradient of their mean, (d,)."""
        with torch.enable_grad():
            flat = self.layout.tensor(x).detach().requires_grad_()
            losses = self._losses(flat, idx)
            (grad,) = torch.autograd.grad(losses.mean(), (flat,))
        return losses.detach().cpu().numpy(), grad.cpu().numpy()

    def _losses(self, flat: torch.Tensor, idx: IndexArray) -> torch.Tensor:
        inputs, targets = self._samples(idx)
        named = dict(zip(self.names, self.layout.views(flat), strict=True))
        losses = self.loss(torch.func.functional_call(self.module, named, (inputs,)), targets)
        if losses.shape != (len(idx),):
            raise OptionError(
                f"loss must return one value per sample, shape ({len(idx)},), got {tuple(losses.shape)}; "
                "use reduction='none' and sum or average the other axes."
            )
        return losses

    def _samples(self, idx: IndexArray) -> tuple[Any, Any]:
        if self.tensors is not None:
            chosen = torch.from_numpy(idx) if idx.flags.writeable else torch.from_numpy(idx.copy())
            inputs, targets = (t[chosen.to(t.device)] for t in self.tensors)
        else:
            inputs, targets = torch.utils.data.default_collate([self.dataset[int(i)] for i in idx])
        return _to(inputs, self.layout.device), _to(targets, self.layout.device)


def _check_dataset(dataset: Any, tensors: Any) -> None:
    """Raise unless samples can be asked for by number, in pairs: a failed sample would be left out of the sum."""
    if tensors is None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise OptionError(
                "dataset must be a map-style Dataset of (input, target) pairs or a tuple of two tensors, "
                f"got {type(dataset).__name__}; give a DataLoader's .dataset."
            )
        return
    if len(tensors) != 2 or not all(isinstance(t, torch.Tensor) for t in tensors):
        found = ", ".join(type(t).__name__ for t in tensors)
        raise OptionError(f"dataset must be two tensors, inputs and targets; got ({found}).")
    if len(tensors[0]) != len(tensors[1]):
        raise OptionError(f"dataset has {len(tensors[0])} inputs and {len(tensors[1])} targets; both must be as many.")


def _to(batch: Any, device: torch.device) -> Any:
    return batch.to(device) if isinstance(batch, torch.Tensor) else batch
