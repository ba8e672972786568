"""Curves in the units of those who measured them: "auto" and its peers where variables differ by orders of magnitude.

``python benchmarks/auto_fits.py`` (a minute; needs ``cma`` and ``nlopt``): mean squares of residuals, relative to the
mean square of the data, from one start each, without bounds; the data is the model at known parameters, so that the
minimum is 0. The number of values of a run is 200 (d + 1). A fit is solved to tau when f <= tau f(x0). The rule by
which "auto" finds the units was developed on the first nine; the others were run afterwards.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import auto as profiles

Model = Callable[[Any], Any]
GAS = 8.314
"""J / (mol K)"""
MARKS = (10, 20, 50, 200)
TAUS = (1e-3, 1e-6)
SOLVERS = ("auto", "fd-bfgs", "L-BFGS-B", "BFGS", "COBYQA", "nlopt BOBYQA", "Nelder-Mead", "pycma")


class Fit(NamedTuple):
    """A model of its parameters, what these are, and where the fit starts."""

    model: Model
    true: Sequence[float]
    start: Sequence[float]


def _orbit(rates: Callable[[Any, float], Any], start: Sequence[float], times: Any) -> Any:
    from scipy.integrate import odeint

    return odeint(rates, start, times)


def _epidemic(p: Any) -> Any:
    def rates(state: Any, _: float) -> list[float]:
        infected = p[0] * state[0] * state[1] / 1e6
        return [-infected, infected - p[1] * state[1]]

    return _orbit(rates, [1e6 - p[2], p[2]], np.linspace(0, 60, 40))[:, 1]


def _growth(p: Any) -> Any:
    def rates(state: Any, _: float) -> list[float]:
        growth = p[0] * state[1] / (p[1] + state[1]) * state[0]
        return [growth, -growth / p[2]]

    return _orbit(rates, [0.05, 10.0], np.linspace(0, 12, 40))[:, 0]


MICRO = np.linspace(0.0, 5e-3, 50)
KELVIN = np.linspace(300.0, 400.0, 20)
HOURS = np.linspace(0.1, 24.0, 30)
RADIANS = np.linspace(1.0, 2000.0, 80)
MOLAR = np.linspace(1e-5, 1e-2, 40)
CELSIUS = np.linspace(10.0, 90.0, 20)
VOLTS = np.linspace(0.0, 0.7, 40)
PASCAL = np.linspace(1e3, 5e6, 30)
HEAD = np.linspace(1.0, 15000.0, 40)
METRES = np.linspace(0.0, 0.2, 30)
MICRONS = np.linspace(0.3e-6, 3e-6, 60)
SECONDS = np.linspace(0.0, 2.0, 80)

DEVELOPED_ON: dict[str, Fit] = {
    "saturation": Fit(lambda p: 1e3 * p[0] * HOURS / (p[1] + HOURS), (3.2e-4, 0.7), (1e-3, 5.0)),
    "capacitor": Fit(lambda p: p[0] * (1 - np.exp(-MICRO / (p[1] * p[2]))), (5.0, 1e3, 1e-6), (3.0, 3e3, 3e-7)),
    "arrhenius": Fit(lambda p: p[0] * np.exp(-p[1] / (GAS * KELVIN)), (1e8, 5e4), (3e7, 4.5e4)),
    "drug": Fit(
        lambda p: p[0] * p[1] / (p[2] * (p[1] - p[3])) * (np.exp(-p[3] * HOURS) - np.exp(-p[1] * HOURS)),
        (500.0, 1.2, 30.0, 0.15),
        (300.0, 2.0, 20.0, 0.3),
    ),
    "epidemic": Fit(_epidemic, (0.5, 0.2, 100.0), (0.4, 0.15, 300.0)),
    "resonance": Fit(
        lambda p: p[0] / np.sqrt((p[1] ** 2 - RADIANS**2) ** 2 + (p[2] * RADIANS) ** 2),
        (2e5, 800.0, 60.0),
        (1e5, 600.0, 150.0),
    ),
    "hill": Fit(lambda p: p[0] * MOLAR ** p[1] / (p[2] ** p[1] + MOLAR ** p[1]), (120.0, 2.0, 2e-3), (80.0, 1.2, 5e-3)),
    "antoine": Fit(lambda p: 10 ** (p[0] - p[1] / (p[2] + CELSIUS)), (8.07, 1730.0, 233.0), (7.0, 1500.0, 200.0)),
    "solar cell": Fit(
        lambda p: p[0] - p[1] * (np.exp(np.minimum(VOLTS / (p[2] * 0.02585), 60)) - 1) - VOLTS / p[3],
        (3.0, 1e-9, 1.3, 50.0),
        (2.5, 1e-8, 1.5, 20.0),
    ),
}
HELD_OUT: dict[str, Fit] = {
    "langmuir": Fit(lambda p: p[0] * p[1] * PASCAL / (1 + p[1] * PASCAL), (4.5, 1e-6), (2.0, 1e-5)),
    "van genuchten": Fit(
        lambda p: p[0] + (p[1] - p[0]) / (1 + np.abs(p[2] * HEAD) ** p[3]) ** (1 - 1 / p[3]),
        (0.06, 0.43, 0.008, 1.6),
        (0.1, 0.5, 0.03, 1.3),
    ),
    "monod": Fit(_growth, (0.6, 0.4, 0.5), (0.4, 1.5, 0.7)),
    "fin": Fit(
        lambda p: p[2] + (p[0] - p[2]) * np.exp(-np.sqrt(p[1] * 40.0 / (200.0 * 1e-4)) * METRES),
        (373.0, 25.0, 293.0),
        (350.0, 60.0, 300.0),
    ),
    "planck": Fit(
        lambda p: p[0] * (1e-6 / MICRONS) ** 5 / (np.exp(np.minimum(0.014388 / (MICRONS * p[1]), 500)) - 1),
        (2e4, 2900.0),
        (1e4, 2000.0),
    ),
    "oscillation": Fit(
        lambda p: p[0] * np.exp(-p[1] * SECONDS) * np.cos(p[2] * SECONDS + p[3]),
        (2e-4, 0.8, 14.0, 0.3),
        (1e-4, 0.3, 13.0, 0.1),
    ),
    "creep": Fit(lambda p: p[0] * (HOURS * 3600) ** p[1] + p[2] * HOURS * 3600, (1e-5, 0.33, 2e-10), (3e-5, 0.2, 1e-9)),
    "tafel": Fit(
        lambda p: np.log10(p[0] * (np.exp(p[1] * VOLTS / 0.02585) - np.exp(-(1 - p[1]) * VOLTS / 0.02585)) + 1e-12),
        (1e-6, 0.4),
        (1e-4, 0.6),
    ),
}


def objective(fit: Fit) -> Callable[[Any], float]:
    """Return the mean squared residual, relative to the data's mean square."""
    data = fit.model(np.array(fit.true))
    size = float(np.mean(data**2))

    def residual(p: Any) -> float:
        with np.errstate(all="ignore"):
            return float(np.mean((fit.model(p) - data) ** 2) / size)

    return residual


def pycma(fun: profiles.Counted, x0: Any, noisy: bool) -> None:
    """Run pycma in units of x0, as its documentation asks for."""
    import cma

    options = {"verbose": -9, "seed": 1, "maxfevals": fun.budget, "verb_disp": 0, "verb_log": 0, "CMA_stds": np.abs(x0)}
    cma.fmin2(fun, x0, 0.3, options, restarts=9, bipop=False)


def lowest(fit: Fit, solver: str) -> list[float]:
    """Return the lowest value so far, per value."""
    x0 = np.array(fit.start)
    fun = profiles.Counted(objective(fit), max(MARKS) * (x0.size + 1), 0.0, 0)
    runner = {**profiles.SOLVERS, "pycma": pycma}[solver]
    with contextlib.suppress(profiles.Spent), warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        runner(fun, x0.copy(), False)
    values = np.full(fun.budget, np.inf)
    for calls, value in fun.steps:
        values[calls - 1] = value
    return list(np.minimum.accumulate(values))


def main() -> None:
    """Run all and print the table."""
    for title, fits in (("developed on", DEVELOPED_ON), ("held out", HELD_OUT)):
        starts = {name: objective(fit)(np.array(fit.start)) for name, fit in fits.items()}
        runs = {solver: {name: lowest(fit, solver) for name, fit in fits.items()} for solver in SOLVERS}
        for tau in TAUS:
            print(f"\n{title}: {len(fits)} fits; solved to {tau:g} within k (d + 1) values")
            print(f"{'':14}" + "".join(f"{f'k = {k}':>9}" for k in MARKS))
            for solver, found in runs.items():
                shares = []
                for k in MARKS:
                    solved = [found[n][k * (len(f.start) + 1) - 1] <= tau * starts[n] for n, f in fits.items()]
                    shares.append(f"{np.mean(solved):9.0%}")
                print(f"{solver:14}" + "".join(shares))


if __name__ == "__main__":
    main()
