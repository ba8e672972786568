"""The command line of the zoo: ``python -m problems list | info | table | run | bench | reference``."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from problems import bench_command, registry
from problems.data import DataUnavailable
from problems.problem import Problem
from problems.record import Sample
from vamo_bbo._errors import VamoError
from vamo_bbo.problem import FiniteSum


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (DataUnavailable, VamoError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m problems", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("list", help="all problems, or those whose name or kind contains a word")
    show.add_argument("word", nargs="?", default="")
    show.set_defaults(command=_list)
    table = commands.add_parser("table", help="all problems as CSV, for the documentation")
    table.set_defaults(command=_table)
    info = commands.add_parser("info", help="everything known about one problem")
    info.add_argument("name")
    info.set_defaults(command=_info)
    run = commands.add_parser("run", help="minimize one problem and say how it went")
    run.add_argument("name")
    run.add_argument("--method", default="auto", help="any method of vamo_bbo.minimize (default: auto)")
    run.add_argument(
        "--budget",
        type=float,
        help="cost in function values, a gradient counting 3; samples for a finite sum"
        " (default: 30 passes over the data, or 100 (d + 1) values)",
    )
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--learning-rate", type=float, help="step size of the stochastic methods (default: their own)")
    run.add_argument("--batch-size", type=int, help="mini-batch of the stochastic methods (default: their own)")
    run.add_argument("--plot", metavar="FILE", help="picture of objective and gradient against cost")
    run.add_argument("--json", metavar="FILE", help="the same as numbers")
    run.set_defaults(command=_run)
    bench_command.add_arguments(commands.add_parser("bench", help="methods x problems x seeds, with profiles"))
    reference = commands.add_parser("reference", help="compute the reference optimum again, with scipy alone")
    reference.add_argument("name")
    reference.add_argument("--starts", type=int, default=9)
    reference.add_argument("--evaluations", type=int, default=10_000, help="most values and gradients of one start")
    reference.set_defaults(command=_reference)
    return parser


def _list(options: argparse.Namespace) -> None:
    chosen = [p for p in registry.find().values() if options.word in p.name or options.word in (p.kind, p.family)]
    width = max((len(problem.name) for problem in chosen), default=0)
    for problem in chosen:
        needs = f"  [{', '.join(problem.needs)}]" if problem.needs else ""
        print(f"{problem.name:{width}}  {problem.dimension:>6}  {problem.kind:10}  {problem.description}{needs}")
    print(f"{len(chosen)} problems; columns: name, dimension, kind, description, [what it needs]")


def _table(options: argparse.Namespace) -> None:
    print(table(), end="")


def table() -> str:
    """Return all problems as CSV: name, d, kind, description, reference, needs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for p in registry.find().values():
        known = (
            ""
            if p.reference is None
            else f"{p.reference.value:.8g}" + ("" if p.reference.is_optimum else " (best known)")
        )
        writer.writerow([p.name, p.dimension, p.kind, p.description, known, ", ".join(p.needs)])
    return text.getvalue()


def _info(options: argparse.Namespace) -> None:
    for label, text in describe(registry.get(options.name)).items():
        print(f"{label:12} {text}")


def describe(problem: Problem) -> dict[str, str]:
    """Return what is known of a problem as label and text, without building it."""
    reference = problem.reference
    known = "none" if reference is None else f"{reference.value:.12g} ({reference.source})"
    if reference is not None and not reference.is_optimum:
        known += "; the best known, not proved to be the optimum"
    return {
        "name": problem.name,
        "family": problem.family,
        "kind": problem.kind,
        "dimension": str(problem.dimension),
        "description": problem.description,
        "reference": known,
        "cost": problem.cost,
        "licence": problem.licence,
        "needs": ", ".join(problem.needs) or "nothing beyond the core packages",
    }


def _run(options: argparse.Namespace) -> None:
    from problems.running import default_budget, run

    problem = registry.get(options.name)
    budget = options.budget or default_budget(problem)
    asked = {"learning_rate": options.learning_rate, "batch_size": options.batch_size}
    chosen = {name: value for name, value in asked.items() if value is not None}
    done = run(problem, options.method, budget=budget, options=chosen, seed=options.seed)
    last = done.samples[-1]
    print(f"problem    {problem.name} (d = {problem.dimension}, {problem.kind})")
    print(f"method     {options.method}, seed {options.seed}: {done.message}")
    print(f"cost       {last.cost:,.0f} values ({done.nfev:,} values and {done.njev:,} gradients counted)")
    print(f"objective  {done.samples[0].value:.8g} -> {last.value:.8g}")
    if problem.reference is not None:
        print(f"reference  {problem.reference.value:.8g}, {last.value - problem.reference.value:.3g} above it")
    if np.isfinite(last.gradient_norm2):
        print(f"gradient   squared norm {last.gradient_norm2:.3g}")
    success = problem.success(done.x)
    if success is not None:
        print(f"success    {'yes' if success else 'no'}")
    if options.json:
        record = {"problem": problem.name, "method": options.method, "seed": options.seed, "x": done.x.tolist()}
        record["samples"] = [sample._asdict() for sample in done.samples]
        Path(options.json).write_text(json.dumps(record), encoding="utf-8")
    if options.plot:
        _plot(options, problem, done.samples)


def _plot(options: argparse.Namespace, problem: Problem, samples: Sequence[Sample]) -> None:
    from problems.plots import curves

    objective = problem.objective
    is_sum = isinstance(objective, FiniteSum)
    curves(
        options.plot,
        {options.method: [samples]},
        title=f"{options.method} on {problem.name}",
        unit=objective.n_samples if isinstance(objective, FiniteSum) else 1.0,
        cost_label="cost in passes over the data, a gradient counting 3" if is_sum else "cost in function values",
        reference=None if problem.reference is None else problem.reference.value,
    )


def _reference(options: argparse.Namespace) -> None:
    from problems.independent import solve

    problem = registry.get(options.name)
    value, x = solve(problem, n_starts=options.starts, n_evaluations=options.evaluations)
    stored = "none" if problem.reference is None else f"{problem.reference.value:.10f}"
    found = f"found {value:.10f}"
    if problem.has_gradient:
        gradient = problem.gradient(x)
        found += f", squared gradient norm {gradient @ gradient:.1e}"
    print(f"{problem.name}: {found}; stored {stored}")
