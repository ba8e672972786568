"""Running the zoo: costs are counted outside the package, and the command line does what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import problems
from problems import cli
from problems.problem import Built, Problem
from problems.record import Counted, Recorder
from problems.running import run

pytest.importorskip("sklearn")


def bowl() -> Problem:
    return Problem(
        "bowl",
        2,
        "value",
        "A sphere.",
        lambda: Built(lambda x: float(x @ x), np.ones(2), gradient=lambda x: 2 * x, success=lambda x: bool(x @ x < 1)),
        "1 us",
        "none",
    )


def test_counted_charges_a_joint_call_as_one_gradient_a_sample() -> None:
    counted = Counted(problems.get("logistic-breast-cancer"))
    x = np.zeros(31)
    counted.objective.losses(x, np.arange(5))
    counted.objective.grad(x, np.arange(7))
    counted.objective.value_and_grad(x, np.arange(11))
    assert (counted.values, counted.gradients) == (5, 18)
    assert counted.cost(3.0) == 59.0


def test_looking_is_free_and_the_budget_stops_the_run() -> None:
    problem = bowl()
    counted = Counted(problem)
    recorder = Recorder(problem, counted, budget=10, looks=5)
    assert counted.values == 0
    point = SimpleNamespace(x=np.zeros(2))
    for _ in range(9):
        counted.objective(point.x)
        recorder(point)
    counted.objective(point.x)
    with pytest.raises(StopIteration):
        recorder(point)
    assert [sample.cost for sample in recorder.samples] == [0, 2, 4, 6, 8, 10]
    assert recorder.samples[0] == (0.0, 2.0, 8.0)


@pytest.mark.parametrize("method", ["sgd", "vamo", "zo-sgd", "L-BFGS-B"])
def test_a_run_improves_within_its_budget(method: str) -> None:
    problem = problems.get("logistic-breast-cancer")
    n = 569
    done = run(problem, method, budget=60 * n, seed=1)
    assert done.samples[-1].value < done.samples[0].value
    assert done.samples[0].value == pytest.approx(np.log(2))
    # one last evaluation of the returned point, or one more iteration of a method that owns its loop, may be over
    assert done.nfev + 3 * done.njev <= 70 * n
    np.testing.assert_allclose(problem.value(done.x), done.samples[-1].value)


def test_success_is_the_fields_own_question() -> None:
    problem = bowl()
    assert problem.success(np.zeros(2)) is True
    assert problem.success(np.ones(2)) is False
    assert problems.get("logistic-breast-cancer").success(np.zeros(31)) is None


def test_command_line_run_writes_numbers_and_a_picture(tmp_path, capsys) -> None:
    numbers, picture = tmp_path / "run.json", tmp_path / "run.png"
    options = ["--method", "sgd", "--learning-rate", "0.1", "--batch-size", "32", "--budget", "20000"]
    assert cli.main(["run", "logistic-breast-cancer", *options, "--json", str(numbers), "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "0.69314718 ->" in shown
    record = json.loads(numbers.read_text())
    assert record["samples"][0]["cost"] == 0
    assert record["samples"][-1]["value"] < 0.2
    assert len(record["x"]) == 31
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_command_line_explains_a_wrong_option(capsys) -> None:
    assert cli.main(["run", "logistic-breast-cancer", "--method", "nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err


def test_reference_command(capsys) -> None:
    assert cli.main(["reference", "logistic-l2-breast-cancer", "--starts", "1"]) == 0
    assert "found 0.05982947" in capsys.readouterr().out


def test_reference_command_without_a_gradient(capsys) -> None:
    assert cli.main(["reference", "beale-2", "--starts", "1"]) == 0
    assert "found 0.0000000000; stored" in capsys.readouterr().out


def test_the_last_line_of_a_run_says_that_the_budget_is_spent() -> None:
    assert run(problems.get("logistic-breast-cancer"), "sgd", budget=3000).message == "The budget is spent."


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "problems", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
