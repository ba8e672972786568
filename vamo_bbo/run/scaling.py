"""The map between the solver's coordinates and the user's point."""

from __future__ import annotations

from dataclasses import dataclass

from vamo_bbo._typing import Array, IndexArray

__all__ = ["Scaling"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """The map from the solver's coordinates z to the user's point: ``x[free] = clip(scale * z)``.

    Parameters
    ----------
    scale : (d,) array or None
        ``x_scale`` of the free variables; None is 1.
    lower, upper : (d,) arrays or None
        Bounds of the free variables in the user's coordinates: a product may round to just outside.
    template : (D,) array or None
        The user's full point where variables are fixed; None if all are free.
    free : (d,) int64 array or None
        Positions of the free variables in ``template``.
    """

    scale: Array | None = None
    lower: Array | None = None
    upper: Array | None = None
    template: Array | None = None
    free: IndexArray | None = None

    @property
    def trivial(self) -> bool:
        """Whether the map is the identity."""
        return self.scale is None and self.template is None

    def to_user(self, z: Array) -> Array:
        """Return the user's point of ``z``; ``z`` is overwritten and may be returned."""
        if self.scale is not None:
            z *= self.scale
            if self.lower is not None and self.upper is not None:
                z.clip(self.lower, self.upper, out=z)
        if self.template is None:
            return z
        full = self.template.copy()
        full[self.free] = z
        return full

    def gradient(self, g: Array) -> Array:
        """Return the gradient in the solver's coordinates of the user's gradient ``g`` (overwritten)."""
        if self.free is not None:
            g = g[self.free]
        if self.scale is not None:
            g *= self.scale
        return g
