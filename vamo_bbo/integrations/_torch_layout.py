"""How the parameters of a PyTorch module lie in one flat vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

try:
    import torch
except ImportError as error:
    raise ImportError("vamo_bbo.integrations.torch needs PyTorch: run `pip install 'vamo_bbo[torch]'`.") from error

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array

__all__ = ["Layout"]


class Layout:
    """How trainable parameters lie in one flat vector.

    Raises
    ------
    OptionError
        There is none, or they differ in dtype or device, or are neither float32 nor float64.
    """

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        self.parameters = list(parameters)
        kinds = {(p.dtype, p.device) for p in self.parameters}
        if not kinds:
            raise OptionError("torch: there is no trainable parameter (requires_grad=True).")
        if len(kinds) > 1 or next(iter(kinds))[0] not in (torch.float32, torch.float64):
            found = sorted(f"{dtype} on {device}" for dtype, device in kinds)
            raise OptionError(f"torch: trainable parameters must be all float32 or all float64 on one device: {found}.")
        self.dtype, self.device = next(iter(kinds))
        self.sizes = [p.numel() for p in self.parameters]

    def views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Return views of ``flat``, (d,), in the parameters' shapes."""
        return [part.view(p.shape) for part, p in zip(flat.split(self.sizes), self.parameters, strict=True)]

    def tensor(self, x: Array) -> torch.Tensor:
        """Return ``x`` as a tensor of the parameters' dtype and device: no copy on the CPU in that dtype."""
        if not x.flags.writeable:
            x = x.copy()  # torch has no read-only tensors
        return torch.as_tensor(x, dtype=self.dtype, device=self.device)

    def array(self) -> Array:
        """Return the parameters as a new NumPy vector."""
        return cast("Array", torch.cat([p.detach().reshape(-1).cpu() for p in self.parameters]).numpy())
