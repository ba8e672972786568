"""Functions of 1,200 to 2,500 variables from values only, without noise: our zeroth-order methods and scipy's L-BFGS-B.

``python benchmarks/many_variables.py`` takes half an hour; ``--set held-out`` (the default) or ``development``,
``--seeds 3``, ``--methods NAME ...``. Reported is, method by method, the lowest value after 0.3, 1, 2, 5 and 20 (d + 1)
evaluations, as a share of the way from f(x0) to the lowest value that any method reached in 20 (d + 1); the table below
it counts problems. Nothing but the counts enters: two runs print the same.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import dst
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb

Array = np.ndarray[Any, np.dtype[np.float64]]
Problem = tuple[Callable[[Array], float], Array, list[tuple[float, float]] | None]
BUDGETS = (0.3, 1.0, 2.0, 5.0, 20.0)
"""Evaluations in units of d + 1."""
TARGETS = (1e-1, 1e-2)
"""Shares of the way that are left."""
_draw = np.random.default_rng


def _grid(z: Array, side: int) -> tuple[Array, Array]:
    square = z.reshape(side, side)
    return np.diff(square, axis=0)[:, :-1], np.diff(square, axis=1)[:-1]


def _network(w: Array, shapes: list[tuple[int, int]], x: Array) -> Array:
    """Return the outputs of a tanh network, biases in the last rows."""
    begin = 0
    for k, (rows, columns) in enumerate(shapes):
        layer = w[begin : begin + rows * columns].reshape(rows, columns)
        begin += rows * columns
        x = x @ layer[:-1] + layer[-1]
        x = np.tanh(x) if k < len(shapes) - 1 else x
    return x


def _size(shapes: list[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def development(d: int = 2000) -> dict[str, Problem]:
    """Return the problems that the solver was developed on, with about d variables."""
    side = math.isqrt(d)
    slow, stiff = 1.0 / np.arange(1.0, d + 1.0), np.geomspace(1.0, 1000.0, d)
    x = _draw(1).normal(size=(400, d)) * np.geomspace(0.1, 3.2, d) / math.sqrt(d)
    y = np.sign(x @ _draw(2).normal(size=d) + 0.1 * _draw(3).normal(size=400))
    wide, narrow = d // 40, d // 83
    shapes = [(21, wide), (wide + 1, narrow), (narrow + 1, 1)]
    inputs = _draw(4).normal(size=(300, 20))
    wanted = np.sin(2 * inputs[:, 0]) * inputs[:, 1] + inputs[:, 2] ** 2 / 2
    image = np.zeros((side, side))
    image[side // 4 : 2 * side // 3, side // 4 : 3 * side // 4] = 1.0
    image[side // 2 : 8 * side // 9, side // 9 : side // 2] += 0.5
    image += 0.2 * _draw(6).normal(size=image.shape)
    modes = np.arange(1, d + 1) * math.pi
    goal = dst(np.sin(3 * np.linspace(0, math.pi, d)), 1) / d
    rows = 3 * d // 10
    a = _draw(7).normal(size=(rows, d)) / math.sqrt(rows)
    b = a @ np.where(_draw(8).random(d) < 0.02, 3 * _draw(9).normal(size=d), 0.0)

    def denoise(z: Array) -> float:
        down, right = _grid(z, side)
        return float(0.5 * np.sum((z - image.ravel()) ** 2) + 0.3 * np.sum(np.sqrt(down**2 + right**2 + 1e-3)))

    return {
        "quadratic, slow decay": (lambda z: float(0.5 * slow @ z**2), np.ones(d), None),
        "quadratic, condition 1e3": (lambda z: float(0.5 * stiff @ (z - 0.3) ** 2), np.ones(d), None),
        "Rosenbrock": (
            lambda z: float(np.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2)),
            np.tile([-1.2, 1.0], d // 2),
            None,
        ),
        "logistic": (
            lambda z: float(np.mean(np.logaddexp(0, -y * (x @ z))) + 1e-4 * z @ z),
            np.zeros(d),
            None,
        ),
        "network": (
            lambda z: float(np.mean((_network(z, shapes, inputs)[:, 0] - wanted) ** 2)),
            0.2 * _draw(5).normal(size=_size(shapes)),
            None,
        ),
        "total variation": (denoise, image.ravel().copy(), None),
        "control of a rod": (
            lambda z: float(np.sum((dst(z, 1) / modes**2 * 1e3 / d - goal) ** 2) + 1e-4 * np.mean(z**2)),
            np.zeros(d),
            None,
        ),
        "sparse regression": (
            lambda z: float(0.5 * np.sum((a @ z - b) ** 2) + 0.05 * np.sum(np.sqrt(z * z + 1e-4))),
            np.zeros(d),
            None,
        ),
    }


def held_out() -> dict[str, Problem]:
    """Return problems that were looked at once, after the development."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.data[::2] / 16.0, digits.target[::2]
    shapes = [(65, 24), (25, 10)]
    rows = np.arange(labels.size)

    def classify(w: Array) -> float:
        scores = _network(w, shapes, pixels)
        top = scores.max(axis=1)
        norm = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        return float(np.mean(norm - scores[rows, labels]) + 1e-4 * w @ w)

    rng = _draw(11)
    left, right = rng.normal(size=(60, 3)), rng.normal(size=(3, 40))
    seen = rng.random((60, 40)) < 0.3
    ratings = (left @ right + 0.1 * rng.normal(size=(60, 40))) * seen

    def complete(z: Array) -> float:
        matrix = z.reshape(60, 40)
        energy = np.linalg.svd(matrix, compute_uv=False)
        return float(0.5 * np.sum(seen * (matrix - ratings) ** 2) + 0.5 * np.sum(np.sqrt(energy**2 + 1e-2)))

    def powell(z: Array) -> float:
        a, b, c, d = z.reshape(-1, 4).T
        return float(np.sum((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4))

    side = 42
    frame = np.zeros((side, side))
    frame[0], frame[-1] = np.sin(np.linspace(0, math.pi, side)), -np.sin(np.linspace(0, math.pi, side))

    def surface(z: Array) -> float:
        whole = frame.copy()
        whole[1:-1, 1:-1] = z.reshape(side - 2, side - 2)
        down, across = _grid(whole.ravel(), side)
        return float(np.mean(np.sqrt(1 + (down * (side - 1)) ** 2 + (across * (side - 1)) ** 2)))

    n = 1500
    blur = np.exp(-0.5 * ((np.arange(n)[:, None] - np.arange(n)) / 6.0) ** 2)
    blur /= blur.sum(axis=1, keepdims=True)
    signal = np.where((np.arange(n) // 150) % 2 == 0, 1.0, 0.0) + 0.5 * np.sin(np.arange(n) / 80.0)
    blurred = blur @ signal + 0.01 * rng.normal(size=n)

    def deblur(z: Array) -> float:
        return float(0.5 * np.sum((blur @ z - blurred) ** 2) + 1e-3 * np.sum(np.diff(z) ** 2))

    parts = np.abs(rng.normal(size=(400, 1500))) / 40.0
    amounts = np.maximum(0.0, rng.normal(size=1500))
    mixture = parts @ amounts + 0.05 * rng.normal(size=400)

    links = 600
    rest = 1.0 + 0.3 * rng.random(links)

    def chain(z: Array) -> float:
        """Return the energy of a hanging chain of nonlinear springs, both ends fixed."""
        points = np.vstack([[0.0, 0.0], z.reshape(-1, 2), [0.8 * links, 0.0]])
        stretch = np.hypot(*np.diff(points, axis=0).T) / rest - 1.0
        return float(np.sum(0.5 * stretch**2 + 5.0 * stretch**4) + 0.002 * points[:, 1].sum())

    start = np.column_stack([0.8 * np.arange(1, links), np.zeros(links - 1)]).ravel()
    pairs = np.triu_indices(500, 1)

    def charges(z: Array) -> float:
        """Return the energy of charges on a sphere, pushed back to it."""
        points = z.reshape(-1, 3)
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
        square = 2.0 - 2.0 * (points @ points.T)[pairs]
        return float(np.sum(1.0 / np.sqrt(square + 1e-9)) / 500)

    return {
        "network on digits": (classify, 0.3 * _draw(12).normal(size=_size(shapes)), None),
        "matrix completion": (complete, ratings.ravel().copy(), None),
        "Powell's singular": (powell, np.tile([3.0, -1.0, 0.0, 1.0], 400), None),
        "minimal surface": (surface, np.zeros((side - 2) ** 2), None),
        "deconvolution": (deblur, blurred.copy(), None),
        "mixture, bounds": (
            lambda z: float(0.5 * np.sum((parts @ z - mixture) ** 2)),
            np.full(1500, 0.5),
            [(0.0, 5.0)] * 1500,
        ),
        "chain of springs": (chain, start, None),
        "charges on a sphere": (charges, _draw(13).normal(size=1500), None),
    }


def best_so_far(problem: Problem, method: Any, seed: int) -> list[float]:
    """Return the lowest value after each of BUDGETS."""
    fun, x0, bounds = problem
    lowest: list[float] = []

    def counted(z: Array) -> float:
        value = fun(z)
        lowest.append(min(value, lowest[-1] if lowest else math.inf))
        return value

    limits = [int(k * (x0.size + 1)) for k in BUDGETS]
    if method == "L-BFGS-B":
        options = {"maxfun": limits[-1], "maxiter": 10**6, "maxcor": 50}
        minimize(counted, x0, method=method, bounds=bounds, options=options)
    else:
        vb.minimize(counted, x0, method=method, bounds=bounds, maxfev=limits[-1], rng=seed)
    return [lowest[min(limit, len(lowest)) - 1] for limit in limits]


METHODS: dict[str, Any] = {
    "auto": "auto",
    "zo-nesterov": "zo-nesterov",
    "zo-sgd": "zo-sgd",
    "zo-adamm": "zo-adamm",
    "fd-bfgs": "fd-bfgs",
    "L-BFGS-B": "L-BFGS-B",
}


def main() -> None:
    """Run all and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("development", "held-out"), default="held-out")
    parser.add_argument("--variables", type=int, default=2000, help="of the problems of the development set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    problems = development(args.variables) if args.set == "development" else held_out()
    solved = {(name, k, t): 0.0 for name in args.methods for k in range(len(BUDGETS)) for t in TARGETS}
    print(f"{'':26s}{'':18s}" + "".join(f"{k:>10g}" for k in BUDGETS) + "   (d + 1) values", flush=True)
    for title, problem in problems.items():
        first = problem[0](problem[1])
        runs = {}
        for name in args.methods:
            run = partial(best_so_far, problem, METHODS[name])
            seeds = 1 if name == "L-BFGS-B" else args.seeds
            runs[name] = np.array([run(seed) for seed in range(seeds)])
        lowest = min(float(values.min()) for values in runs.values())
        for name, values in runs.items():
            left = (values - lowest) / (first - lowest)
            for k in range(len(BUDGETS)):
                for target in TARGETS:
                    solved[name, k, target] += float(np.mean(left[:, k] <= target))
            print(f"{title:26s}{name:18s}" + "".join(f"{v:10.2g}" for v in np.median(left, axis=0)), flush=True)
            title = ""
    for target in TARGETS:
        print(f"\nproblems of {len(problems)} within {target:g} of the way")
        for name in args.methods:
            print(f"{'':26s}{name:18s}" + "".join(f"{solved[name, k, target]:10.1f}" for k in range(len(BUDGETS))))


if __name__ == "__main__":
    main()
