"""The benchmark: exact budgets, resumable, errors recorded, profiles right on a case done by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import problems
from problems import bench, bench_command, cli, peers, profiles
from problems.bench import RunOver, Task, Watched


def test_watched_counts_keeps_improvements_and_ends_the_run() -> None:
    fun = Watched(problems.get("rosenbrock-2"), 3)
    for x in ([0.0, 0.0], [5.0, 5.0], [1.0, 1.0]):
        fun(np.array(x))
    assert fun.improvements == [(1, 1.0), (3, 0.0)]
    with pytest.raises(RunOver):
        fun(np.zeros(2))
    assert fun.count == 3


@pytest.mark.parametrize("method", ["zo-sgd", "scipy-nelder-mead", "scipy-powell", "scipy-cobyqa", "scipy-de", "cmaes"])
def test_methods_stay_within_the_budget_and_improve(method: str) -> None:
    if method == "cmaes":
        pytest.importorskip("cmaes")
    row = bench.carry_out(Task("rosenbrock-2", method, 0, 60))
    assert row["error"] == ""
    assert int(row["nfev"]) <= 60
    assert float(row["best"]) < problems.get("rosenbrock-2").value(problems.get("rosenbrock-2").x0)


def test_a_failing_method_is_a_row_with_its_error() -> None:
    row = bench.carry_out(Task("rosenbrock-2", "no-such-method", 0, 10))
    assert "no-such-method" in row["error"]


def test_a_second_start_repeats_nothing(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    tasks = [Task("rosenbrock-2", "scipy-nelder-mead", seed, 20) for seed in (0, 1)]
    assert len(bench.run(tasks[:1], path, jobs=1)) == 1
    with path.open() as file:
        first = list(csv.DictReader(file))
    rows = bench.run(tasks, path, jobs=1)
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert rows[0] == first[0]


def row(method: str, steps: str, budget: int = 30) -> dict[str, str]:
    best = steps.split(":")[-1]
    return dict(
        zip(bench.COLUMNS, ("rosenbrock-2", "2", method, "0", str(budget), "30", best, "0", "", steps), strict=True)
    )


def test_profiles_by_hand() -> None:
    start = problems.get("rosenbrock-2").value(problems.get("rosenbrock-2").x0)
    assert start == 404.0
    rows = [row("fast", "1:404 6:40 12:0.1"), row("slow", "1:404 27:40.4")]
    assert profiles.evaluations_to(rows[0], 40.0) == 6
    assert profiles.evaluations_to(rows[1], 40.0) == np.inf
    profile = profiles.data_profile(rows, 0.1)
    assert profile["fast"].tolist() == [2.0]
    assert profile["slow"].tolist() == [9.0]
    assert profiles.data_profile(rows, 1e-3)["slow"].tolist() == [np.inf]
    lines = profiles.table(rows).splitlines()
    assert lines[1].startswith("fast")
    assert "100.0 %" in lines[2]


def test_only_problems_with_all_their_runs_are_compared() -> None:
    rows = [row("a", "1:404"), row("b", "1:404"), {**row("a", "1:404"), "problem": "beale-2"}]
    assert profiles.complete(rows, 2) == rows[:2]


def test_command_line_bench(tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["bench", "beale-2", "himmelblau-2", "--methods", "zo-sgd,scipy-nelder-mead", "--seeds", "2"]
    assert cli.main([*arguments, "--budget-factor", "10", "--jobs", "1", "--out", str(tmp_path)]) == 0
    assert "scipy-nelder-mead" in capsys.readouterr().out
    with (tmp_path / "bench.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_runtime_distribution_counts_every_target_and_its_area() -> None:
    fast, never = row("fast", "1:404 3:0"), row("never", "1:404")
    distribution = profiles.data_profile([fast, never], profiles.TARGETS)
    assert distribution["fast"].shape == (1, 40)
    assert np.all(distribution["fast"] == 1.0)
    assert np.all(distribution["never"] == np.inf)
    areas = {line.split()[0]: float(line.split()[8]) for line in profiles.table([fast, never]).splitlines()[1:]}
    assert areas == {"fast": 1.0, "never": 0.0}


def test_a_run_without_a_value_reaches_nothing() -> None:
    empty = {**row("none", "1:404"), "improvements": "", "best": "nan", "error": "ValueError: no"}
    assert profiles.evaluations_to(empty, 1.0) == np.inf
    assert np.all(np.isinf(profiles.data_profile([empty, row("fast", "1:404 3:0")], 0.1)["none"]))


def test_table_by_dimension() -> None:
    other = {**row("fast", "1:1e12"), "problem": "ellipsoid-10", "dimension": "10"}
    lines = profiles.table_by_dimension([row("fast", "1:404 3:0"), other]).splitlines()
    assert lines[0].split() == ["solved", "to", "0.001", "d", "=", "2", "d", "=", "10"]
    assert lines[1].split() == ["fast", "100.0", "%", "0.0", "%"]


def test_methods_by_group() -> None:
    ours = bench_command.methods("ours")
    assert ours[0] == "auto"
    assert {"zo-sgd", "spsa", "ours-cma"} <= set(ours)
    assert not {"vamo", "residual", "cma"} & set(ours)
    assert bench_command.methods("ours,peers,auto") == [*ours, *peers.PEERS]


def test_a_failure_of_our_own_method_is_an_error_of_the_command(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit, match="1 runs failed; no-such-method on beale-2"):
        cli.main(["bench", "beale-2", "--methods", "no-such-method", "--jobs", "1", "--out", str(tmp_path)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # cocopp's own
def test_coco_runs_each_method_once_and_hands_all_to_cocopp(tmp_path, monkeypatch) -> None:
    pytest.importorskip("cocoex")
    cocopp = pytest.importorskip("cocopp")
    calls: list = []
    monkeypatch.setattr(cocopp, "main", calls.append)
    arguments = ["bench", "--coco", "--dims", "2", "--methods", "zo-sgd,scipy-nelder-mead", "--budget-factor", "20"]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    folders = [tmp_path / "coco" / name for name in ("zo-sgd", "scipy-nelder-mead")]
    assert calls[0][-2:] == [str(folder) for folder in folders]
    for folder in folders:
        data = cocopp.load(str(folder))
        assert len(data) == 24
        assert all(max(entry.maxevals) <= 60 for entry in data)
    written = {path: path.stat().st_mtime_ns for path in folders[0].rglob("*")}
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    assert written == {path: path.stat().st_mtime_ns for path in folders[0].rglob("*")}
