"""Ignition of hydrogen simulated with Cantera: find reaction rates from ignition delays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from problems.data import require
from problems.problem import Array, Built, Problem, Reference
from vamo_bbo.problem import FiniteSum


class Ignition:
    """Ignition delays of hydrogen in air under several conditions, against those of the true mechanism.

    Parameters
    ----------
    reactions : tuple of int
        Whose rates are multiplied by exp(x_j).
    conditions : tuple of (float, float, float)
        Temperature (K), pressure (atm), equivalence ratio.
    """

    def __init__(self, reactions: tuple[int, ...], conditions: tuple[tuple[float, float, float], ...]) -> None:
        self.reactions, self.conditions = reactions, conditions
        still = np.zeros(len(reactions))
        self.targets = np.array([self.log_delay(still, *condition) for condition in conditions])

    def log_delay(self, x: Array, temperature: float, pressure: float, ratio: float) -> float:
        """Return the logarithm of the time (s) at which the temperature has risen by 400 K at constant volume."""
        cantera = require("cantera", why="Ignition")
        gas = _mechanism(cantera)
        for reaction, exponent in zip(self.reactions, x, strict=True):
            gas.set_multiplier(float(np.exp(np.clip(exponent, -5, 5))), reaction)
        # the whole state at once: what an earlier run left behind must not matter, to the last bit
        gas.TPX = temperature, pressure * cantera.one_atm, {"H2": 2 * ratio, "O2": 1.0, "N2": 3.76}
        network = cantera.ReactorNet([_reactor(cantera, gas)])
        limit, last = temperature + 400.0, (0.0, temperature)
        while network.time < 1.0:
            network.step()
            now = network.reactors[0].T if hasattr(network, "reactors") else gas.T
            if now >= limit:
                share = (limit - last[1]) / (now - last[1])
                return float(np.log(last[0] + share * (network.time - last[0])))
            last = (network.time, now)
        return 0.0

    def losses(self, x: Array, idx: Array) -> Array:
        """Return the squared errors of the log delays under the conditions ``idx``."""
        return np.array([(self.log_delay(x, *self.conditions[k]) - self.targets[k]) ** 2 for k in idx])


_GAS: dict[str, Any] = {}


def _mechanism(cantera: Any) -> Any:
    """Return the mechanism, read once a process."""
    if "h2o2" not in _GAS:
        _GAS["h2o2"] = cantera.Solution("h2o2.yaml", transport_model=None)
    return _GAS["h2o2"]


def _reactor(cantera: Any, gas: Any) -> Any:
    try:
        return cantera.IdealGasReactor(gas, clone=False)
    except TypeError:
        return cantera.IdealGasReactor(gas)


CONDITIONS = tuple((t, p, r) for t in (1000.0, 1100.0, 1250.0) for p in (1.0, 5.0) for r in (0.5, 1.0))


def _build_ignition() -> Built:
    """Return the calibration of six rates to twelve delays, started off by up to a factor e."""
    ignition = Ignition((0, 1, 2, 9, 12, 16), CONDITIONS)
    start = np.array([0.7, -0.5, 0.4, -0.8, 0.3, 0.6])
    return Built(FiniteSum(ignition.losses, len(CONDITIONS)), start)


def problems() -> Iterable[Problem]:
    """Return the calibration of six rates."""
    yield Problem(
        "ignition",
        6,
        "finite_sum",
        "Six reaction rates of hydrogen from twelve ignition delays.",
        _build_ignition,
        "30 ms for all twelve",
        "BSD-3-Clause (Cantera)",
        Reference(0.0, "by construction: the delays are those of the unchanged mechanism", by_descent=False),
        ("cantera",),
    )
