"""``python -m problems bench``: what to run, then the files that a benchmark leaves."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from problems import bench, coco, peers, profiles, registry, suites


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("names", nargs="*", help="problems (default: the closed-form classics)")
    parser.add_argument("--suite", choices=["bbob", "s2mpj"], help="all problems of a suite instead")
    parser.add_argument("--dims", type=_numbers, default=(2, 5, 10), help="dimensions of BBOB (default: 2,5,10)")
    parser.add_argument("--instances", type=_numbers, default=(1,), help="instances of BBOB (default: 1)")
    parser.add_argument(
        "--methods",
        default="auto,scipy-nelder-mead",
        help="comma-separated; 'ours' is every method of ours that takes a plain callable, 'peers' every peer"
        " (default: auto,scipy-nelder-mead)",
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget-factor", type=int, default=100, help="values per (d + 1) (default: 100)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="start no run after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder for rows, tables and pictures")
    parser.add_argument("--coco", action="store_true", help="run COCO's own BBOB under its observer, then cocopp")
    parser.set_defaults(command=command)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def methods(text: str) -> list[str]:
    """Return the methods that a comma-separated text names, its groups spelt out, each once.

    Examples
    --------
    >>> methods("scipy-powell,auto,scipy-powell")
    ['scipy-powell', 'auto']
    """
    chosen: list[str] = []
    for word in text.split(","):
        chosen += peers.ours() if word == "ours" else list(peers.PEERS) if word == "peers" else [word]
    return list(dict.fromkeys(chosen))


def command(options: argparse.Namespace) -> None:
    """Run what is missing, then write rows, tables and pictures of what is there.

    Raises
    ------
    SystemExit
        One of our own methods failed: the rows name the error.
    """
    chosen = methods(options.methods)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.coco:
        deadline = time.perf_counter() + options.time_limit
        coco.bench(
            chosen, options.out, dims=options.dims, instances=options.instances, factor=options.budget_factor,
            deadline=deadline,
        )  # fmt: skip
        return
    names = options.names or [p.name for p in registry.find().values() if p.family == "classics"]
    if options.suite:
        names = suites.names(options.suite, options.dims, options.instances)
    budgets = {name: options.budget_factor * (registry.get(name).dimension + 1) for name in names}
    tasks = [bench.Task(n, m, seed, budgets[n]) for n in names for seed in range(options.seeds) for m in chosen]
    stem = f"bench_{options.suite}" if options.suite else "bench"
    rows = bench.run(tasks, options.out / f"{stem}.csv", jobs=options.jobs, time_limit=options.time_limit)
    print(f"{len(rows)} of {len(tasks)} runs done" + ("" if len(rows) == len(tasks) else "; start again to go on"))
    _report(profiles.complete(rows, len(chosen) * options.seeds), options, stem)
    failed = [row for row in rows if row["error"] and row["method"] not in peers.PEERS]
    if failed:
        first = failed[0]
        raise SystemExit(f"{len(failed)} runs failed; {first['method']} on {first['problem']}: {first['error']}")


def _report(rows: list[profiles.Row], options: argparse.Namespace, stem: str) -> None:
    if not rows:
        return
    text = profiles.table(rows)
    if len({row["dimension"] for row in rows}) > 1 and options.suite == "bbob":
        text += "\n\n" + profiles.table_by_dimension(rows)
    (options.out / f"{stem}.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
    n_problems = len({re.sub(r"-i\d+-", "-", row["problem"]) for row in rows})
    counts = {"problems": n_problems, "instances": len(options.instances), "seeds": options.seeds}
    shown = ", ".join(f"{k} {name}" for name, k in counts.items() if name == "problems" or k > 1)
    title = f"{shown}, {options.budget_factor} (d + 1) values"
    profiles.draw(rows, options.out / f"{stem}.png", title)
    profiles.draw_ecdf(rows, options.out / f"{stem}_ecdf.png", title)
