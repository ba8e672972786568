"""Which of our methods run on what, found by asking them."""

from __future__ import annotations

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.solvers import METHODS


def running_on(**info) -> list[str]:
    """Return the names of the methods that take such an objective."""
    names = []
    for name, factory in METHODS.items():
        try:
            factory().init(np.zeros(3), seed=1, backend="numpy", info=ProblemInfo(**info))
        except CapabilityError:
            continue
        names.append(name)
    return names


PLAIN = running_on()
"""Methods that need values only."""
NEED_GRADIENT = [name for name in running_on(gradient="full") if name not in PLAIN]
"""Methods that need values and gradients of a plain objective."""
SUMS = [n for n in running_on(n_samples=9, gradient="full") if n not in PLAIN and n not in NEED_GRADIENT]
"""Methods that need a finite sum."""
