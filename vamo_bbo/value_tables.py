r"""The value table of VAMO with coefficients that are learned instead of given.

The table gives q scalars per mini-batch, :math:`c_j = \mathrm{mean}_{i \in I} D_{ij} - \mathrm{mean}_i D_{ij}`, D the
differences at the snapshot. Their use as a control variate of the mini-batch gradient g is a regression:

.. math::
    v = g - \sum_j a_j c_j \frac{u_j}{\|u_j\|^2}, \quad a_j = \frac{\mathrm{Cov}(\langle g, u_j\rangle, c_j)}
    {\mathrm{Var}(c_j)} \qquad\text{or}\qquad v = g - B c, \quad B = \mathrm{Cov}(g, c)\,\mathrm{Cov}(c)^{-1}.

Per direction the correction stays on the line that was measured; the vector form removes all that the q scalars predict
of g. Both are estimated from the mini-batches since the snapshot that came before the present one, so v has no bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.estimate import Estimate, Measured
from vamo_bbo.core.solver import ArraySpec, Context
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.estimators import Difference
from vamo_bbo.recipes import ControlVariate

__all__ = ["LearnedValues"]

FIRST = 4
"""Mini-batches after a snapshot that only teach: a regression on fewer is mostly noise."""


@dataclass(frozen=True, slots=True)
class LearnedValues(ControlVariate):
    """A value table with learned coefficients, one per direction or one vector per direction.

    Parameters
    ----------
    form : {"directions", "vector"}
        a_j, or B. The vector form keeps q vectors of length d.

    Examples
    --------
    >>> from vamo_bbo.estimators import ForwardDifference
    >>> from vamo_bbo.first_order import FirstOrder
    >>> recipe = LearnedValues(FirstOrder(), ForwardDifference(3, law="block"), table=True, form="vector")
    >>> [spec.name for spec in recipe.arrays(ProblemInfo(n_samples=9, gradient="full"), 6, 3)][-2:]
    ['moments', 'responses']
    """

    form: Literal["directions", "vector"] = "directions"

    def arrays(self, info: ProblemInfo, size: int, batch_size: int) -> tuple[ArraySpec, ...]:
        """Return the table and the sums of the regression."""
        assert isinstance(self.control, Difference)
        q = self.control.count(size)
        specs = ControlVariate.arrays(self, info, size, batch_size)
        if self.form == "vector":
            return (*specs, ArraySpec("moments", (q, q), "float64"), ArraySpec("responses", (q, size)))
        return (*specs, ArraySpec("moments", (q,), "float64"), ArraySpec("responses", (q,), "float64"))

    def check(self, info: ProblemInfo, size: int) -> None:
        """Raise also for a partial gradient: its unknown coordinates are estimates with noise of their own."""
        ControlVariate.check(self, info, size)
        if info.gradient == "partial":
            raise CapabilityError("learned coefficients need all coordinates of the gradient; use mixing='optimal'.")

    def deviations(self, ctx: Context) -> FloatArray:
        """Return c, shape (q,); 0 where a difference failed."""
        return np.nan_to_num(self._looked_up(ctx) - ctx.arrays["full_differences"], nan=0.0)

    def coefficients(self, ctx: Context) -> FloatArray | None:
        """Return a, shape (q,), or B' in float64, (q, d); None while too little is known."""
        moments, responses = ctx.arrays["moments"], ctx.arrays["responses"]
        count = ctx.scalars.get("learned_from", 0.0)
        if count < FIRST:
            return None
        if self.form == "directions":
            safe = np.where(moments > 0, moments, 1.0)
            return np.asarray(np.where(moments > 0, responses / safe, 0.0).clip(0.0, 1.0))
        q = len(moments)
        # A ridge of the size of the sampling error of q regressors from `count` batches.
        ridge = (q + 1.0) / count * float(np.trace(moments)) / q
        if not ridge > 0:
            return None
        return np.asarray(np.linalg.solve(moments + ridge * np.eye(q), responses.astype(np.float64)))

    def correction(self, ctx: Context, deviations: FloatArray) -> Estimate:
        """Return what is subtracted from the mini-batch gradient."""
        learned = self.coefficients(ctx)
        if learned is None:
            return Estimate()
        if self.form == "vector":
            vector: Array = np.einsum("j,jd->d", deviations, learned).astype(ctx.arrays["x"].dtype)
            return Estimate((), ((1.0, vector),))
        norms2 = np.array(ctx.directions.norms2(self._directions(ctx)))
        return self._along(ctx, learned * ctx.arrays["control_weights"] * deviations / norms2)

    def combine(self, ctx: Context, got: Mapping[str, Measured]) -> Estimate | None:
        """Store a full pass and go on, or return the corrected gradient."""
        if "full" in got:
            self._store(ctx, got["full"])
            ctx.arrays["moments"][...] = 0
            ctx.arrays["responses"][...] = 0
            ctx.scalars["learned_from"] = 0.0
            return None
        c = self.deviations(ctx)
        ctx.state.cache["deviations"] = c
        return got["x"].estimate - self.correction(ctx, c)

    def observe(self, ctx: Context, got: Mapping[str, Measured], estimate: Estimate) -> None:
        """Add this mini-batch to the regression, for later steps only."""
        gradient = got["x"].gradient
        assert gradient is not None
        c: FloatArray = ctx.state.cache.pop("deviations")
        ctx.scalars["learned_from"] = ctx.scalars.get("learned_from", 0.0) + 1.0
        if self.form == "vector":
            ctx.arrays["moments"] += np.outer(c, c)
            ctx.arrays["responses"] += c[:, None].astype(gradient.dtype) * gradient
            return
        us = self._directions(ctx)
        assert isinstance(self.control, Difference)
        scales = np.array([self.control.scale(u, ctx) for u in us])
        ctx.arrays["moments"] += c * c
        ctx.arrays["responses"] += c * ctx.project(gradient, us) * scales
