"""Tables of ``benchmarks/finite_sum.py``: cost to a relative gap, ratios to the best of each peer, and basins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

TARGETS = (1e-2, 1e-3, 1e-5)
PEERS = ("SGD", "Adam", "AdamW", "SAGA", "SVRG", "L-BFGS-B")
BASINS = ("SGD", "Adam", "SAGA", "SVRG")
CHOOSING_SEEDS = (0, 1)
"""Seeds on which a peer's step and schedule are chosen, for every target; all its seeds are reported."""
Runs = dict[str, dict[str, Any]]


def first(costs: Any, gaps: Any, target: float) -> float:
    """Return the cost at which the gap first is at or below the target, inf if it never is."""
    hit = np.flatnonzero(np.asarray(gaps) <= target)
    return float(costs[hit[0]]) if hit.size else math.inf


def costs_of(runs: Runs, name: str, looks: Any, grad_cost: float) -> dict[str, list[float]]:
    """Return the median cost to every target in gradient passes: vamo's, and that of each peer's chosen settings."""
    rows = hits(runs, name, looks, grad_cost)
    found: dict[str, list[float]] = {}
    for method in {method for method, _ in rows}:
        settings = chosen(rows, method)
        found[method] = [
            float(np.median([costs[k] for costs in rows[method, setting].values()]))
            for k, setting in enumerate(settings)
        ]
    return found


def hits(runs: Runs, name: str, looks: Any, grad_cost: float) -> dict[tuple[str, str], dict[int, list[float]]]:
    """Return the costs to the targets of every run: by (method, setting), then by seed."""
    n, (best, span) = _samples(name), optimum(runs, name)
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for key, run in runs.items():
        parts = key.split("|")
        if parts[0] != name or parts[1] in ("reference", "basin"):
            continue
        gaps = (np.array(run["values"]) - best) / span
        costs = looks[: len(gaps)] if parts[1] != "L-BFGS-B" else np.arange(1.0, len(gaps) + 1)
        if parts[1] == "vamo":
            costs = np.array([f / grad_cost + g for f, g in run["spent"]]) / n
        setting, seed = "|".join(parts[2:-1]), int(parts[-1]) if len(parts) > 2 else 0
        found.setdefault((parts[1], setting), {})[seed] = [first(costs, gaps, t) for t in TARGETS]
    return found


def chosen(rows: dict[tuple[str, str], dict[int, list[float]]], method: str) -> list[str]:
    """Return the setting of ``method`` that is cheapest on ``CHOOSING_SEEDS``, for every target."""
    settings = [setting for name, setting in rows if name == method]

    def score(setting: str, k: int) -> float:
        return float(np.median([c[k] for seed, c in rows[method, setting].items() if seed in CHOOSING_SEEDS]))

    return [min(settings, key=lambda setting, k=k: score(setting, k)) for k in range(len(TARGETS))]


def optimum(runs: Runs, name: str) -> tuple[float, float]:
    """Return f* and f(x0) - f*: of a nonconvex problem, f* is the lowest minimum that any method's run led to."""
    facts = runs[f"{name}|reference"]
    reached = [run["best"] for key, run in runs.items() if key.startswith(f"{name}|basin|")]
    best = min(reached) if reached else facts["best"]
    return best, facts["f0"] - best


def _samples(name: str) -> float:
    """Return n."""
    import problems

    return float(problems.get(name).objective.n_samples)


def shown(value: float) -> str:
    """Return a cost for a table."""
    return "-" if math.isinf(value) else f"{value:.1f}"


def ratio(ours: float, theirs: float) -> float | None:
    """Return ours / theirs; 0 if only we got there, inf if only they did, None if nobody did."""
    if math.isinf(ours):
        return None if math.isinf(theirs) else math.inf
    return 0.0 if math.isinf(theirs) else ours / theirs


def table(runs: Runs, names: Sequence[str], looks: Any, grad_cost: float) -> list[str]:
    """Return cost per problem and median and worst ratios over problems."""
    lines = [f"{'problem':30} " + " ".join(f"{m:>17}" for m in ("vamo", *PEERS))]
    ratios: dict[tuple[str, int], list[float]] = {}
    for name in names:
        costs = costs_of(runs, name, looks, grad_cost)
        if "vamo" not in costs:
            continue
        cells = [" / ".join(f"{shown(c):>4}" for c in costs.get(m, [math.inf] * 3)) for m in ("vamo", *PEERS)]
        lines.append(f"{name:30} " + " ".join(f"{cell:>17}" for cell in cells))
        for peer in PEERS:
            for k in range(3):
                r = ratio(costs["vamo"][k], costs[peer][k]) if peer in costs else None
                if r is not None:
                    ratios.setdefault((peer, k), []).append(r)
    for label, pick in (("median of vamo / peer", np.median), ("worst of vamo / peer", np.max)):
        cells = []
        for peer in PEERS:
            parts = [ratios.get((peer, k), []) for k in range(3)]
            cells.append(" / ".join(f"{pick(p):.2f}" if p else "-" for p in parts))
        lines.append(f"{label:30} {'':17} " + " ".join(f"{cell:>17}" for cell in cells))
    return lines


def profile(runs: Runs, names: Sequence[str], looks: Any, grad_cost: float) -> list[str]:
    """Return the share of problems that a method solves within a factor of the cheapest method."""
    factors = (1.0, 1.3, 2.0, 4.0)
    lines = []
    for k, target in enumerate(TARGETS):
        rows = [costs_of(runs, name, looks, grad_cost) for name in names]
        rows = [r for r in rows if "vamo" in r and min(c[k] for c in r.values()) < math.inf]
        if not rows:
            continue
        lines.append(f"within a factor of the cheapest, gap {target:g} ({len(rows)} problems that somebody solved)")
        lines.append(f"{'':10} " + " ".join(f"{f:>6g}" for f in factors))
        for method in ("vamo", *PEERS):
            shares = [
                np.mean([r.get(method, [math.inf] * 3)[k] <= f * min(c[k] for c in r.values()) for r in rows])
                for f in factors
            ]
            lines.append(f"{method:10} " + " ".join(f"{s:6.2f}" for s in shares))
    return lines


def basin_table(runs: Runs, names: Sequence[str]) -> list[str]:
    """Return where nonconvex runs end after an L-BFGS polish, relative to the best minimum known."""
    lines = [f"{'problem':30} {'vamo (seeds)':>28} " + " ".join(f"{m:>9}" for m in BASINS)]
    for name in names:
        facts = runs[f"{name}|reference"]
        ends = {k.split("|", 2)[2]: r["best"] for k, r in runs.items() if k.startswith(f"{name}|basin|")}
        if not ends:
            continue
        best, span = facts["best"], facts["f0"] - facts["best"]
        gap = {label: (end - best) / span for label, end in ends.items()}
        seeds = " ".join(f"{g:.1e}" for label, g in gap.items() if label.startswith("vamo|") and int(label[5:]) < 3)
        others = " ".join(f"{gap.get(f'{m}|0', math.nan):9.1e}" for m in BASINS)
        lines.append(f"{name:30} {seeds:>28} {others}")
    return lines


def safety(runs: Runs, names: Sequence[str]) -> list[str]:
    """Return the largest f of any look at vamo, relative to f(x0), and its CPU time per step."""
    rows = [(n, r) for n in names for k, r in runs.items() if k.startswith(f"{n}|vamo|")]
    if not rows:
        return []
    worst = max(r["worst"] / runs[f"{n}|reference"]["f0"] for n, r in rows)
    speed = np.median([1e6 * r["seconds"] / r["nit"] for _, r in rows])
    return [f"largest f at any look / f(x0): {worst:.3f}; median CPU time per step, objective included: {speed:.0f} us"]


def report(
    runs: Runs, development: Sequence[str], held_out: Sequence[str], looks: Any, grad_costs: Sequence[float]
) -> str:
    """Return all tables as text."""
    lines: list[str] = []
    groups = {
        "HELD OUT, convex": [n for n in held_out if n.startswith("logistic-l2")],
        "HELD OUT, not convex": [n for n in held_out if not n.startswith("logistic-l2")],
        "HELD OUT, all": list(held_out),
        "DEVELOPMENT": list(development),
    }
    for number, grad_cost in enumerate(grad_costs):
        if number:  # the price moves little here, because hardly any method asks for values: ratios only
            lines += [f"HELD OUT, all; gradient = {grad_cost:g} values"]
            lines += [*table(runs, held_out, looks, grad_cost)[-2:], ""]
            continue
        for title, names in groups.items():
            if names:
                lines += [f"{title}; gradient = {grad_cost:g} values; gradient passes to 1e-2 / 1e-3 / 1e-5"]
                lines += [*table(runs, names, looks, grad_cost), ""]
        if held_out:
            lines += ["PROFILES, held out", *profile(runs, held_out, looks, grad_cost), ""]
    names = [*held_out, *development]
    lines += [
        "BASINS: L-BFGS polish of the final point, relative gap to the best minimum known from many starts",
        *basin_table(runs, names),
        "",
    ]
    return "\n".join(lines + safety(runs, names)) + "\n"
