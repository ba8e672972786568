"""Exact accounting of evaluations, in calls and in samples, and all-or-nothing budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from vamo_bbo.core.types import Answer, Batch, Probe, ProblemInfo
from vamo_bbo.run.objective import sampling_size

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
        self.maxfev, self.maxjev = maxfev, maxjev
        self.free_values = free_values
        self.nfev = self.njev = self.nfev_samples = self.njev_samples = 0
        self.pending_fev = self.pending_jev = 0
        self._last: tuple[Batch | None, int] = (None, 0 if info.n_samples is None else info.n_samples)

    def cost(self, probe: Probe) -> tuple[int, int]:
        """Return (sample values, sample gradients) that ``probe`` costs."""
        samples = 1
        if self.n is not None:
            if probe.batch != self._last[0]:  # the probes of a round mostly share a batch
                self._last = (probe.batch, sampling_size(probe, self.n))
            samples = self._last[1]
        if probe.want == "gradient":
            return 0, samples
        if probe.want == "both":
            return (0 if self.free_values else samples), samples
        return samples, 0

    def total(self, probes: Iterable[Probe]) -> tuple[int, int]:
        """Return the summed cost of ``probes``."""
        plain = self.n is None
        values = gradients = 0
        for probe in probes:
            if plain and probe.want == "value":
                values += 1
            else:
                v, g = self.cost(probe)
                values += v
                gradients += g
        return values, gradients

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
        values, gradients = self.total(probes)
        if self.nfev_samples + self.pending_fev + values > self.maxfev:
            return "maxfev"
        if gradients and self.njev_samples + self.pending_jev + gradients > self.maxjev:
            return "maxjev"
        self.pending_fev += values
        self.pending_jev += gradients
        return None

    def count(self, probe: Probe) -> None:
        """Turn the reservation of an evaluated probe, failed or not, into counts."""
        if self.n is None and probe.want == "value":
            self.nfev += 1
            self.nfev_samples += 1
            self.pending_fev -= 1
            return
        values, gradients = self.cost(probe)
        self.nfev += values > 0
        self.njev += gradients > 0
        self.nfev_samples += values
        self.njev_samples += gradients
        self.pending_fev -= values
        self.pending_jev -= gradients

    def count_all(self, pairs: Sequence[tuple[Probe, Answer]]) -> None:
        """Count the probes of many answers."""
        plain, simple = self.n is None, 0
        for probe, _ in pairs:
            if plain and probe.want == "value":
                simple += 1
            else:
                self.count(probe)
        self.nfev += simple
        self.nfev_samples += simple
        self.pending_fev -= simple

    def release(self, probes: Iterable[Probe]) -> None:
        """Give back the reservation of probes that were not evaluated."""
        values, gradients = self.total(probes)
        self.pending_fev -= values
        self.pending_jev -= gradients

    @property
    def left(self) -> float:
        """Sample values that are left."""
        return self.maxfev - self.nfev_samples - self.pending_fev
