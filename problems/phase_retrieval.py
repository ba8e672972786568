r"""Real phase retrieval, :math:`f_i(x) = \frac14 ((a_i^\top x)^2 - y_i)^2`: find a signal from squared measurements.

Candès, Li and Soltanolkotabi, "Phase retrieval via Wirtinger flow", IEEE Trans. Inf. Theory 61, 2015. The signal is
planted, so the minimum is 0, at the signal and at its negative. Zero is a local maximum, so the start is random.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from problems.linear import LinearSum, Link
from problems.problem import Array, Built, Problem, Reference


def intensity_error(amplitude: Array, intensity: Array) -> Array:
    """Return (p^2 - y)^2 / 4."""
    return np.asarray((amplitude**2 - intensity) ** 2 / 4)


def intensity_error_slope(amplitude: Array, intensity: Array) -> Array:
    """Return its derivative (p^2 - y) p."""
    return np.asarray((amplitude**2 - intensity) * amplitude)


def build(n_samples: int, dimension: int, seed: int = 0) -> Built:
    """Return the problem for a signal of norm 1, started at a random point of norm 1."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_samples, dimension))
    signal, start = rng.standard_normal((2, dimension))
    signal, start = signal / np.linalg.norm(signal), start / np.linalg.norm(start)
    sum_ = LinearSum(rows, (rows @ signal) ** 2, Link(intensity_error, intensity_error_slope))
    return Built(sum_.finite_sum(), start, success=partial(_found, signal=signal))


def _found(x: Array, signal: Array) -> bool:
    """Say whether ``x`` is the signal up to its sign, to one percent."""
    return bool(min(np.linalg.norm(x - signal), np.linalg.norm(x + signal)) < 0.01)


def problems() -> Iterable[Problem]:
    """Return a small and a larger problem."""
    for name, n_samples, dimension, cost in (("small", 400, 40, "0.04 ms"), ("large", 4000, 400, "1.5 ms")):
        yield Problem(
            f"phase-retrieval-{name}",
            dimension,
            "finite_sum",
            f"Real phase retrieval of a planted signal from {n_samples:,} Gaussian intensities.",
            partial(build, n_samples, dimension),
            f"{cost} a full value and gradient",
            "generated",
            Reference(0.0, "by construction: the signal is planted", 1e-9),
        )
