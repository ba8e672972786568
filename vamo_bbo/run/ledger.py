"""Exact accounting of evaluations, in calls and in samples, and all-or-nothing budgets."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from operator import is_

from vamo_bbo.core.types import Probe, ProblemInfo
from vamo_bbo.run.objective import batch_samples

__all__ = ["Ledger"]


class Ledger:
    """Count evaluations and say whether a round still fits.

    A probe that wants a value costs one call and its batch's samples; one that wants a gradient costs one gradient
    call and as many sample gradients; "both" costs both, except that a finite sum's ``value_and_grad`` gives the
    values for the price of the gradient.

    Parameters
    ----------
    info : ProblemInfo
        Says whether samples are counted.
    maxfev, maxjev : float
        Limits of ``nfev_samples`` and ``njev_samples``; inf for none. For an objective that is not a sum, samples
        are calls.
    free_values : bool
        Whether "both" counts as a gradient only.

    Attributes
    ----------
    nfev, njev : int
        Calls that were made.
    nfev_samples, njev_samples : int
        Samples they evaluated.
    """

    def __init__(
        self,
        info: ProblemInfo,
        maxfev: float = math.inf,
        maxjev: float = math.inf,
        *,
        free_values: bool = False,
    ) -> None:
        self.n = info.n_samples
        self.calls_only = info.n_samples is None and info.gradient == "none"  # every probe is one value
        self.maxfev, self.maxjev = maxfev, maxjev
        self.free_values = free_values
        self.nfev = self.njev = self.nfev_samples = self.njev_samples = 0
        self.pending_fev = self.pending_jev = 0
        self._latest: tuple[tuple[Probe, ...], tuple[int, int, int, int]] = (), (0, 0, 0, 0)

    def total(self, probes: Collection[Probe]) -> tuple[int, int, int, int]:
        """Return the calls and samples of values, and the calls and samples of gradients, that ``probes`` cost."""
        if self.calls_only or not probes:
            return len(probes), len(probes), 0, 0
        same, totals = self._latest  # a round is reserved, and then counted
        if len(same) != len(probes) or not all(map(is_, same, probes)):
            totals = self._added(probes)
            self._latest = tuple(probes), totals
        return totals

    def _added(self, probes: Collection[Probe]) -> tuple[int, int, int, int]:
        wants = [probe[5] for probe in probes]
        gradients, both = wants.count("gradient"), wants.count("both")
        calls, gradient_calls = len(wants) - gradients - (both if self.free_values else 0), gradients + both
        if self.n is None:
            return calls, calls, gradient_calls, gradient_calls
        batches = [probe[4] for probe in probes]
        if batches.count(batches[0]) == len(batches):  # as in most rounds
            samples = batch_samples(batches[0], self.n)
            return calls, samples * calls, gradient_calls, samples * gradient_calls
        sizes = [batch_samples(batch, self.n) for batch in batches]
        free = ("gradient", "both") if self.free_values else ("gradient",)
        values = sum([size for size, want in zip(sizes, wants, strict=True) if want not in free])
        asked = sum([size for size, want in zip(sizes, wants, strict=True) if want in ("gradient", "both")])
        return calls, values, gradient_calls, asked

    def afford(self, probes: Sequence[Probe]) -> str | None:
        """Reserve the cost of all ``probes`` and return None; or reserve nothing and name the limit that is in the way.

        Examples
        --------
        >>> from vamo_bbo.core.types import AnchorRef
        >>> ledger = Ledger(ProblemInfo(), maxfev=3)
        >>> pair = [Probe((0, 0, 0, i), AnchorRef("x", 0)) for i in range(2)]
        >>> ledger.afford(pair), ledger.afford(pair)
        (None, 'maxfev')
        """
        _, values, _, gradients = self.total(probes)
        if self.nfev_samples + self.pending_fev + values > self.maxfev:
            return "maxfev"
        if gradients and self.njev_samples + self.pending_jev + gradients > self.maxjev:
            return "maxjev"
        self.pending_fev += values
        self.pending_jev += gradients
        return None

    def count(self, probes: Collection[Probe]) -> None:
        """Turn the reservations of evaluated probes, failed or not, into counts."""
        calls, values, gradient_calls, gradients = self.total(probes)
        self.nfev += calls
        self.nfev_samples += values
        self.pending_fev -= values
        if gradients:
            self.njev += gradient_calls
            self.njev_samples += gradients
            self.pending_jev -= gradients

    def release(self, probes: Collection[Probe]) -> None:
        """Give back the reservation of probes that were not evaluated."""
        _, values, _, gradients = self.total(probes)
        self.pending_fev -= values
        self.pending_jev -= gradients

    @property
    def left(self) -> float:
        """Sample values that are left."""
        return self.maxfev - self.nfev_samples - self.pending_fev
