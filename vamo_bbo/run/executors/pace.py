"""How long evaluations take lately, and so how many of them a worker is given at once."""

from __future__ import annotations

import math

__all__ = ["Pace"]

SHORT = 0.02
"""Seconds up to which evaluations are short: a worker then holds a further message and never waits for the next one.
Longer ones gain nothing from waiting in a worker, and could wait there while another worker idles."""
EVEN, UNEVEN = 0.025, 0.002
"""Seconds of work in a message where run times are about equal, and where they vary: there, what one worker holds
another one could have begun."""
SPREAD = 2.0
"""Ratio of the longest to the shortest up to which run times are about equal."""
FADING = 0.95
"""What an extreme run time counts for after one further evaluation."""


class Pace:
    """The run times of the latest evaluations; older ones fade.

    Attributes
    ----------
    shortest, longest : float
        Seconds.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.short, pace.share(32, 8)
    (False, 1)
    >>> for _ in range(20):
    ...     pace.took(0.005)
    >>> pace.short, pace.share(32, 8), pace.share(12, 8)
    (True, 4, 1)
    >>> pace.took(0.015)
    >>> pace.share(32, 8)
    1
    """

    def __init__(self) -> None:
        self.shortest, self.longest = 0.0, math.inf

    def took(self, seconds: float) -> None:
        """Note that an evaluation took ``seconds``."""
        seconds = max(seconds, 1e-6)  # a coarse clock says 0
        if math.isinf(self.longest):
            self.shortest = self.longest = seconds
        self.shortest = min(seconds, self.shortest / FADING)
        self.longest = max(seconds, self.longest * FADING)

    @property
    def short(self) -> bool:
        """Whether a worker may hold what it has not begun."""
        return self.longest <= SHORT

    def share(self, queued: int, workers: int) -> int:
        """Return how many of ``queued`` evaluations go to one of so many workers in a message."""
        even = self.longest <= SPREAD * self.shortest
        return max(1, min(int((EVEN if even else UNEVEN) / self.longest), queued // workers))
