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


class Sensitivities:
    """Ignition delays with their sensitivities to the rates, and two unknown errors of the experiment.

    The last two variables are an error of the temperature (in 10 K) and of the logarithm of the pressure. The
    simulator gives first-order sensitivities to the rates only: their coordinates of the gradient are known, those of
    the two errors are NaN.

    Parameters
    ----------
    reactions : tuple of int
        Whose rates are multiplied by exp(x_j).
    conditions : tuple of (float, float, float)
        Temperature (K), pressure (atm), equivalence ratio.
    truth : tuple of float
        Where the delays that are to be found again were measured; len(reactions) + 2 of them.
    """

    def __init__(
        self,
        reactions: tuple[int, ...],
        conditions: tuple[tuple[float, float, float], ...],
        truth: tuple[float, ...],
    ) -> None:
        self.reactions, self.conditions = reactions, conditions
        self.targets = np.array([self.log_delay(np.array(truth), c)[0] for c in conditions])

    def log_delay(
        self, x: Array, condition: tuple[float, float, float], *, first_order: bool = False
    ) -> tuple[float, Array]:
        """Return the logarithm of the delay (s) to a rise of 400 K, and its derivatives by the rates' exponents.

        With t the time at which T reaches its limit, dt/dx = -(dT/dx) / (dT/dt).
        """
        cantera = require("cantera", why="Ignition")
        temperature, pressure, ratio = condition
        temperature, pressure = temperature + 10.0 * float(x[-2]), pressure * float(np.exp(x[-1]))
        gas = _mechanism(cantera)
        gas.set_multiplier(1.0)
        for reaction, exponent in zip(self.reactions, x[:-2], strict=True):
            gas.set_multiplier(float(np.exp(exponent)), reaction)
        gas.TPX = temperature, pressure * cantera.one_atm, {"H2": 2 * ratio, "O2": 1.0, "N2": 3.76}
        reactor = _reactor(cantera, gas)
        network = cantera.ReactorNet([reactor])
        network.rtol, network.atol = 1e-8, 1e-18  # a smooth delay: its error must not hide its differences
        if first_order:
            for reaction in self.reactions:
                reactor.add_sensitivity_reaction(reaction)
            network.rtol_sensitivity, network.atol_sensitivity = 1e-6, 1e-9
        row, none = reactor.component_index("temperature"), np.zeros(len(self.reactions))
        limit, before, slopes_before = temperature + 400.0, (0.0, temperature), none
        while network.time < 1.0:
            network.step()
            time, now = network.time, gas.T
            slopes = now * network.sensitivities()[row] if first_order else none
            if now >= limit:
                share = (limit - before[1]) / (now - before[1])
                delay = before[0] + share * (time - before[0])
                rise = (now - before[1]) / (time - before[0])
                return float(np.log(delay)), -((1 - share) * slopes_before + share * slopes) / (rise * delay)
            before, slopes_before = (time, now), slopes
        raise RuntimeError(f"No ignition within a second at {condition}.")

    def losses(self, x: Array, idx: Array) -> Array:
        """Return the squared errors of the log delays under the conditions ``idx``."""
        return np.array([(self.log_delay(x, self.conditions[k])[0] - self.targets[k]) ** 2 for k in idx])

    def value_and_grad(self, x: Array, idx: Array) -> tuple[Array, Array]:
        """Return losses and their mean gradient, NaN where the simulator gives no sensitivity."""
        losses, gradient = np.empty(len(idx)), np.zeros(x.size)
        gradient[-2:] = np.nan
        for row, k in enumerate(idx):
            delay, slopes = self.log_delay(x, self.conditions[k], first_order=True)
            error = delay - self.targets[k]
            losses[row] = error**2
            gradient[:-2] += 2 * error * slopes / len(idx)
        return losses, gradient


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


MOST_SENSITIVE = (10, 8, 5, 18, 6, 21, 17, 2)
"""The eight reactions to which the delays are the most sensitive, the most sensitive first."""
HARDER = tuple((t, p, r) for t in (1000.0, 1100.0, 1250.0, 1400.0) for p in (1.0, 5.0, 20.0) for r in (0.5, 1.0))
TRUTH = (0.0,) * 8 + (0.5, 0.1)
SENSITIVITY_COST = 6.0
"""Price of a delay with its eight sensitivities in delays: 25 ms against 4 ms."""


def _build_sensitivities() -> Built:
    """Return the calibration of eight rates, a temperature and a pressure to 24 delays."""
    ignition = Sensitivities(MOST_SENSITIVE, HARDER, TRUTH)
    start = np.array([0.2, -0.3, 0.3, -0.5, 0.3, 0.5, -0.4, 0.3, 0.0, 0.0])
    total = FiniteSum(ignition.losses, len(HARDER), value_and_grad=ignition.value_and_grad, grad_cost=SENSITIVITY_COST)
    return Built(total, start, bounds=np.tile([-1.5, 1.5], (start.size, 1)))


def problems() -> Iterable[Problem]:
    """Return the calibrations of six rates, and of eight rates with known sensitivities."""
    yield Problem(
        "ignition-sensitivities",
        10,
        "finite_sum",
        "Eight reaction rates with first-order sensitivities, and two errors without, from 24 ignition delays.",
        _build_sensitivities,
        "4 ms a delay, 25 ms with sensitivities",
        "BSD-3-Clause (Cantera)",
        Reference(0.0, "by construction: the delays are those of the true rates and errors", by_descent=False),
        ("cantera",),
    )
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
