"""Where the value-table form of VAMO pays: a map over gradient price, known coordinates, n/b, q and spectrum.

``python benchmarks/niche.py`` (NumPy only, about 15 minutes of one core; resumable). Logistic regression with
generated rows of spectrum k^-p, 10 % wrong labels and a small L2 term: n = 512, d = 32, reference by Newton. Cost to
a relative gap is read from the traces of runs with constant step sizes, so one set of runs serves every price of a
gradient: cost = values + price x gradients, per sample; every method has its best of the grid, the median of two seeds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "paper"))

from harness import COLOURS, Store, axes, columns, save, table, trace

import vamo_bbo as vb
from problems.linear import LOGISTIC, LinearSum, Penalty
from vamo_bbo.schedules import Power

N, D = 512, 32
SPECTRA = (0.0, 0.5)
BATCHES = (16, 64)
QS = (4, 32)
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
SEEDS = (0, 1)
EPOCHS = 24
TARGETS = (1e-1, 1e-2, 1e-3)
PRICES = (1, 2, 3, 5, 10, 20, 50, 100, 300, 1000)
SHARES = (0.5, 0.9375)


class Instance:
    """One generated problem with its optimum."""

    def __init__(self, power: float) -> None:
        rng = np.random.default_rng(7)
        scales = np.arange(1, D + 1) ** -power
        rows = rng.standard_normal((N, D)) * scales * math.sqrt(D / np.sum(scales**2))
        hidden = rng.standard_normal(D) / scales * (2 / D)
        signs = np.where((rows @ hidden > 0) ^ (rng.random(N) < 0.1), 1.0, -1.0)
        self.sum = LinearSum(rows, signs, LOGISTIC, Penalty("l2", 1e-3))
        self.data, self.x0 = self.sum.finite_sum(), np.zeros(D)
        self.best = self.value(self._newton(rows, signs))
        self.first = self.value(self.x0) - self.best

    def value(self, x: np.ndarray) -> float:
        """Return f(x)."""
        return float(self.sum.losses(x, np.arange(N)).mean())

    def _newton(self, rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
        x = np.zeros(D)
        for _ in range(30):
            p = 1 / (1 + np.exp(signs * (rows @ x)))
            hessian = rows.T @ ((p * (1 - p))[:, None] * rows) / N + 1e-3 * np.eye(D)
            x -= np.linalg.solve(hessian, self.sum.gradient(x, np.arange(N)))
        return x

    def look(self, x: np.ndarray) -> dict[str, float]:
        """Return the relative gap."""
        return {"gap": (self.value(x) - self.best) / self.first}


def first_order(batch: int) -> dict[str, Callable[[float], Any]]:
    """Return the methods of the map with full gradients, by label."""
    methods: dict[str, Callable[[float], Any]] = {
        "SGD": partial(vb.sgd, batch_size=batch),
        "SGD, k^-1/2": partial(vb.sgd, batch_size=batch, schedule=Power(0.5, 10.0)),
        "SVRG": partial(vb.svrg, batch_size=batch),
        "ZO-SVRG": partial(vb.zo_svrg, n_directions=8, share_directions=True, batch_size=batch),
    }
    saga = getattr(vb, "saga", None)
    if saga is not None:
        methods["SAGA"] = partial(saga, batch_size=batch)
    for q, passes in product(QS, (1, 4)):
        methods[f"VAMO q={q} E={passes}"] = partial(
            vb.vamo, control="values", n_directions=q, batch_size=batch, epoch_length=passes * N // batch
        )
    return methods


def partial_gradient(batch: int) -> dict[str, Callable[[float], Any]]:
    """Return the methods of the map with partly known gradients."""
    return {
        "SGD": partial(vb.sgd, batch_size=batch),
        "SGD, k^-1/2": partial(vb.sgd, batch_size=batch, schedule=Power(0.5, 10.0)),
        "SVRG": partial(vb.svrg, batch_size=batch),
        "VAMO q=4 E=1": partial(vb.vamo, control="values", n_directions=4, batch_size=batch, epoch_length=N // batch),
        "VAMO q=32 E=4": partial(
            vb.vamo, control="values", n_directions=32, batch_size=batch, epoch_length=4 * N // batch
        ),
        "ZO-SVRG": partial(vb.zo_svrg, n_directions=8, share_directions=True, batch_size=batch),
        "residual q=8": partial(vb.residual, n_directions=8, batch_size=batch),
    }


def runs(
    store: Store, instance: Instance, key: str, make: Callable[[float], Any], batch: int, known: int = D
) -> dict[float, list[dict[str, list[float]]]]:
    """Return the traces of every step size and seed; ``known`` is the number of known gradient coordinates."""
    unknown = (np.arange(D) * known % D >= known).astype(np.uint8) if known < D else None
    data = instance.data
    if known < D and ("residual" in key or "ZO-SVRG" in key):
        hidden = np.flatnonzero(unknown)
        unknown = None

        def surrogate(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
            gradient = instance.sum.gradient(x, idx)
            gradient[hidden] = 0.0
            return gradient

        grad = surrogate if "residual" in key else None
        data = vb.FiniteSum(instance.sum.losses, N, grad=grad)

    def one(rate: float, seed: int) -> dict[str, list[float]]:
        rows = trace(
            data, instance.x0, make(rate), budget=math.inf, seed=seed, look=instance.look,
            unknown=unknown, steps=EPOCHS * N // batch, every=max(1, N // batch // 4),
        )  # fmt: skip
        kept = columns(rows)
        return {name: kept[name] for name in ("nfev", "njev", "gap")}

    return {rate: [store.once(f"{key} rate={rate:g} seed={s}", partial(one, rate, s)) for s in SEEDS] for rate in RATES}


def cost_to(traces: dict[float, list[dict[str, list[float]]]], target: float, price: float) -> float:
    """Return the lowest median cost per sample at which ``target`` is first seen, over the step sizes."""
    best = math.inf
    for seeds in traces.values():
        costs = []
        for run in seeds:
            cost = (np.array(run["nfev"]) + price * np.array(run["njev"])) / N
            below = np.flatnonzero(np.array(run["gap"]) <= target)
            costs.append(float(cost[below[0]]) if below.size else math.inf)
        best = min(best, float(np.median(costs)))
    return best


def full_map(store: Store) -> dict[tuple[float, int], dict[str, Any]]:
    """Run the map with full gradients."""
    out = {}
    for batch, power in product(BATCHES, SPECTRA):
        instance = Instance(power)
        out[power, batch] = {
            label: runs(store, instance, f"full p={power} b={batch} {label}", make, batch)
            for label, make in first_order(batch).items()
        }
        print("done", power, batch, flush=True)
    return out


def partial_map(store: Store) -> dict[tuple[float, float], dict[str, Any]]:
    """Run the map with partly known gradients, b = 16."""
    out = {}
    for power, share in product(SPECTRA, SHARES):
        instance, known = Instance(power), round(share * D)
        out[power, share] = {
            label: runs(store, instance, f"partial p={power} known={known} {label}", make, 16, known)
            for label, make in partial_gradient(16).items()
        }
        print("done", power, share, flush=True)
    return out


def best_of(cell: dict[str, Any], prefix: str, target: float, price: float) -> tuple[float, str]:
    """Return the lowest cost among the methods whose label starts with ``prefix``, and that label."""
    costs = {label: cost_to(traces, target, price) for label, traces in cell.items() if label.startswith(prefix)}
    label = min(costs, key=lambda k: costs[k])
    return costs[label], label


FAMILIES = ("SGD", "SVRG", "SAGA", "VAMO", "ZO-SVRG", "residual")


def winners(cells: dict[Any, dict[str, Any]], target: float) -> list[tuple[str, ...]]:
    """Return one row per cell and price: the cost of every family, the winner marked."""
    rows = []
    for key, cell in cells.items():
        for price in (1, 3, 10, 30, 100):
            costs = {f: best_of(cell, f, target, price) for f in FAMILIES if any(k.startswith(f) for k in cell)}
            lowest = min(c for c, _ in costs.values())
            shown = [
                f"{'*' if c == lowest < math.inf else ''}{c:.3g}{' ' + label.split(' ', 1)[1] if f == 'VAMO' else ''}"
                for f, (c, label) in costs.items()
            ]
            rows.append((str(key), f"{price}", *shown))
    return rows


def spectrum(power: float) -> str:
    """Return the spectrum's name."""
    return f"spectrum k^-{power:g}" if power else "flat spectrum"


def draw(cells: dict[tuple[float, int], dict[str, Any]]) -> None:
    """Draw cost(best VAMO) / cost(best SGD), and / cost(best of all others), over price and target."""
    figure, grid = axes(len(SPECTRA), width=4.2, height=3.4, rows=len(BATCHES))
    for (power, batch), axis in zip(product(SPECTRA, BATCHES), grid.T.ravel(), strict=True):
        cell = cells[power, batch]
        for target, color in zip(TARGETS, COLOURS, strict=False):
            for rival, style in ((("SGD",), "-"), (("SGD", "SVRG", "SAGA", "ZO-SVRG"), "--")):
                ratios = [
                    best_of(cell, "VAMO", target, price)[0]
                    / min(best_of(cell, r, target, price)[0] for r in rival if any(k.startswith(r) for k in cell))
                    for price in PRICES
                ]
                label = f"gap {target:g}, against {'SGD' if len(rival) == 1 else 'all'}"
                axis.plot(PRICES, ratios, style, color=color, label=label)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.axvline(D + 1, color="black", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", yscale="log", title=f"{spectrum(power)}, n/b = {N // batch}")
        axis.grid(alpha=0.3)
    for axis in grid[-1]:
        axis.set_xlabel("price of a gradient, in values")
    for axis in grid[:, 0]:
        axis.set_ylabel("cost of VAMO / cost of rival")
    grid[0, 0].legend(frameon=False, fontsize=7)
    print(save(figure, "niche-ratio"))


def phase(cells: dict[tuple[float, int], dict[str, Any]]) -> None:
    """Draw which family is cheapest over price and target."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    present = [f for f in FAMILIES[:5] if any(k.startswith(f) for k in next(iter(cells.values())))]
    palette = [COLOURS[k] for k in range(len(present))] + ["#dddddd"]
    figure, grid = axes(len(SPECTRA), width=4.0, height=2.8, rows=len(BATCHES))
    targets = np.logspace(-0.5, -4, 15)
    for (power, batch), axis in zip(product(SPECTRA, BATCHES), grid.T.ravel(), strict=True):
        picture = np.full((len(targets), len(PRICES)), len(present))
        for (row, target), (column, price) in product(enumerate(targets), enumerate(PRICES)):
            costs = [best_of(cells[power, batch], f, target, price)[0] for f in present]
            if min(costs) < math.inf:
                picture[row, column] = int(np.argmin(costs))
        axis.imshow(picture, cmap=ListedColormap(palette), vmin=0, vmax=len(present), aspect="auto")
        # Beyond D + 1 values forward differences are the cheaper gradient.
        axis.axvline(
            float(np.interp(math.log(D + 1), np.log(PRICES), range(len(PRICES)))), color="white", linestyle=":"
        )
        axis.set_xticks(range(len(PRICES)), PRICES, fontsize=7)
        axis.set_yticks(range(0, len(targets), 2), [f"{t:.0e}" for t in targets[::2]], fontsize=7)
        axis.set_title(f"{spectrum(power)}, n/b = {N // batch}", fontsize=9)
    for axis in grid[-1]:
        axis.set_xlabel("price of a gradient, in values")
    for axis in grid[:, 0]:
        axis.set_ylabel("target gap")
    handles = [Patch(color=c, label=k) for k, c in zip([*present, "not reached"], palette, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    print(save(figure, "niche-phase"))


def main() -> None:
    """Run what is missing, print the tables, draw the pictures."""
    parser = argparse.ArgumentParser(description="The map of VAMO's niche.")
    parser.add_argument("--part", choices=("all", "full", "partial"), default="all", help="which runs")
    part_of = parser.parse_args().part
    store = Store("niche")
    if part_of != "partial":
        show_full(store)
    if part_of != "full":
        show_partial(store)


def show_full(store: Store) -> None:
    """Print and draw the map with full gradients."""
    full = full_map(store)
    phase(full)
    draw(full)
    families = [f for f in FAMILIES if any(k.startswith(f) for k in full[SPECTRA[0], BATCHES[0]])]
    print(table(("(spectrum, b)", "price", *families), winners(full, 1e-2)))


def show_partial(store: Store) -> None:
    """Print the map with partly known gradients."""
    part = partial_map(store)
    families = [f for f in FAMILIES if any(k.startswith(f) for k in next(iter(part.values())))]
    for target in TARGETS[:2]:
        print(f"gap {target:g}")
        print(table(("(spectrum, known)", "price", *families), winners(part, target)))


if __name__ == "__main__":
    main()
