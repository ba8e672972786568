"""Learning rates of the evolution strategy that follow the signal in its updates, for noise and many minima.

M. Nomura, Y. Akimoto and I. Ono, CMA-ES with learning rate adaptation: can CMA-ES with default population size solve
multimodal and noisy problems?, GECCO 2023, arXiv:2304.03473. An update of the mean or the covariance is a sample of a
mean change and of noise, in coordinates in which the distribution is a standard one. Averages over generations tell the
two apart, and the share of the update that is made keeps their ratio where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vamo_bbo._typing import FloatArray
from vamo_bbo.core.solver import State

__all__ = ["damp", "start"]

ALPHA, GAMMA = 1.4, 0.1
"""Ratio that is aimed at, per learning rate; fastest relative change of a learning rate, per learning rate."""
BETAS = {"mean": 0.1, "covariance": 0.03}
"""Weight of the latest update in the averages."""


def start(state: State) -> None:
    """Begin with whole updates."""
    for name in BETAS:
        state.arrays[f"{name}_drift"] = np.zeros_like(state.arrays[name])
        state.scalars |= {f"{name}_power": 0.0, f"{name}_rate": 1.0}


def damp(
    state: State, before: tuple[FloatArray, float, FloatArray], whiten: Callable[[FloatArray], FloatArray]
) -> None:
    """Make a share of the update that the state has just had.

    Parameters
    ----------
    before : tuple
        Mean, step and C before the update.
    whiten : callable
        Multiplies the rows of a (k, d) array by ``C^(-1/2)``, C that before the update.
    """
    arrays, scalars = state.arrays, state.scalars
    mean, sigma, covariance = before
    whole = scalars["sigma"] ** 2 * arrays["covariance"] - sigma**2 * covariance
    by_mean = arrays["mean"] - mean
    local = whiten(whiten(np.atleast_2d(whole)).T) if covariance.ndim == 2 else whiten(whiten(whole[None, :]))[0]
    old_rate = scalars["mean_rate"]
    _adapt(state, "mean", whiten(by_mean[None, :])[0] / sigma)
    _adapt(state, "covariance", local / (math.sqrt(2.0) * sigma**2))
    arrays["mean"] = mean + scalars["mean_rate"] * by_mean
    spread = sigma**2 * covariance + scalars["covariance_rate"] * whole
    size = np.linalg.slogdet(spread)[1] if spread.ndim == 2 else np.log(spread).sum()
    variance = math.exp(float(size) / mean.size)
    arrays["covariance"] = spread / variance
    scalars["sigma"] = math.sqrt(variance) * old_rate / scalars["mean_rate"]


def _adapt(state: State, name: str, update: FloatArray) -> None:
    """Take an update into the averages, and move its learning rate towards the ratio that is aimed at."""
    scalars, beta = state.scalars, BETAS[name]
    drift = (1.0 - beta) * state.arrays[f"{name}_drift"] + beta * update
    power = (1.0 - beta) * scalars[f"{name}_power"] + beta * float((update**2).sum())
    state.arrays[f"{name}_drift"], scalars[f"{name}_power"] = drift, power
    signal = float((drift**2).sum())
    ratio = (signal - beta / (2.0 - beta) * power) / max(power - signal, 1e-300)
    rate = scalars[f"{name}_rate"]
    relative = max(-1.0, min(1.0, ratio / (ALPHA * rate) - 1.0))
    scalars[f"{name}_rate"] = min(1.0, rate * math.exp(min(GAMMA * rate, beta) * relative))
