"""Optuna and gest-api, against the real packages."""

import json
import math
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import vamo_bbo as vb
from vamo_bbo.cli import main
from vamo_bbo.run.load import load


def loss(a: float, b: float) -> float:
    return (a - 1) ** 2 + (b - 0.5) ** 2


class TestOptuna:
    @pytest.fixture(autouse=True)
    def quiet(self) -> Any:
        optuna = pytest.importorskip("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna

    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    def test_sampler_optimizes(self, quiet: Any, direction: str) -> None:
        from vamo_bbo.integrations.optuna import VamoSampler

        sign = 1 if direction == "minimize" else -1
        method = vb.zo_sgd(0.02, n_directions=2, smoothing=0.02)
        study = quiet.create_study(sampler=VamoSampler(method, rng=0), direction=direction)
        study.optimize(lambda t: sign * loss(t.suggest_float("a", 0, 4), t.suggest_float("b", 0, 1)), 150)
        assert sign * study.best_value < 1e-3

    def test_failed_trials_are_survived_and_the_seed_repeats(self, quiet: Any) -> None:
        from vamo_bbo.integrations.optuna import VamoSampler

        def objective(trial: Any) -> float:
            if trial.number % 5 == 4:
                raise ValueError
            return loss(trial.suggest_float("a", 0, 4), trial.suggest_float("b", 0, 1))

        def values() -> list[Any]:
            study = quiet.create_study(sampler=VamoSampler("spsa", rng=1))
            study.optimize(objective, 60, catch=(ValueError,))
            return [t.value for t in study.trials]

        first = values()
        assert first == values()
        assert min(v for v in first if v is not None) < loss(2, 0.2)

    def test_integers_of_all_kinds_and_categories_are_searched(self, quiet: Any) -> None:
        from vamo_bbo.integrations.optuna import VamoSampler

        def objective(trial: Any) -> float:
            trees, width = trial.suggest_int("trees", 1, 5000, log=True), trial.suggest_int("width", 32, 512, step=32)
            return abs(math.log(trees / 37)) + abs(width - 160) / 32 + (trial.suggest_categorical("kind", "ab") == "a")

        study = quiet.create_study(sampler=VamoSampler(rng=1))
        study.optimize(objective, 60)
        assert study.best_params["width"] == 160
        assert study.best_params["kind"] == "b"
        assert 30 <= study.best_params["trees"] <= 45

    def test_what_cannot_be_searched_is_drawn_at_random(self, quiet: Any) -> None:
        from vamo_bbo.integrations.optuna import VamoSampler

        def objective(trial: Any) -> float:
            step = trial.suggest_float("stepped", 0, 1, step=0.25)
            return loss(trial.suggest_float("a", 0, 4), step)

        study = quiet.create_study(sampler=VamoSampler("zo-sgd", rng=1))
        study.optimize(objective, 40)
        assert {t.params["stepped"] for t in study.trials} <= {0, 0.25, 0.5, 0.75, 1.0}

    def test_a_journal_becomes_a_study(self, quiet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        space = vb.Space(a=vb.Real(0, 4), b=vb.Real(1e-3, 1, log=True))

        def fun(p: dict[str, float]) -> float:
            if p["a"] > 2.05:
                raise ValueError("diverged")
            return loss(p["a"], p["b"])

        path = tmp_path / "run.db"
        vb.minimize(fun, space, method=vb.zo_sgd(0.1, smoothing=0.05), rng=0, maxfev=40, journal=path)
        storage = f"sqlite:///{tmp_path}/study.db"
        assert main(["export", str(path), storage]) == 0
        study = quiet.load_study(study_name="vamo_bbo", storage=storage)
        data = load(path)
        assert len(study.trials) == len(data.evaluations["value"])
        assert study.best_value == pytest.approx(data.result.best_fun)
        assert sum(t.state.name == "FAIL" for t in study.trials) == len(data.failures) > 0
        assert main(["export", str(path), str(tmp_path / "study.db")]) == 1  # the same file, by its path
        assert "already holds a study 'vamo_bbo'" in capsys.readouterr().err


class TestGest:
    @pytest.fixture
    def vocs(self) -> Any:
        module = pytest.importorskip("gest_api.vocs")
        return module.VOCS(variables={"a": [0, 4], "b": [0, 1]}, objectives={"f": "MINIMIZE"}, constants={"c": 7.0})

    def test_suggest_and_ingest(self, vocs: Any) -> None:
        from vamo_bbo.integrations.gest import VamoGenerator

        generator = VamoGenerator(vocs, vb.zo_sgd(0.02, n_directions=2, smoothing=0.02), rng=0)
        for k in range(60):
            points = generator.suggest(None)
            assert all(set(p) == {"a", "b", "c", "_id"} and p["c"] == 7.0 for p in points)
            results = [{**p, "f": float("nan") if k == 3 else loss(p["a"], p["b"])} for p in points]
            generator.ingest(results[::-1])
        assert loss(generator.best["a"], generator.best["b"]) < 1e-3

    def test_exactly_as_many_as_asked_for_or_an_error(self, vocs: Any) -> None:
        from vamo_bbo.integrations.gest import VamoGenerator

        generator = VamoGenerator(vocs, vb.zo_sgd(0.1, n_directions=2), rng=0)
        first = generator.suggest(1)
        with pytest.raises(ValueError, match="9 points were asked for, 2 are open: ingest results first"):
            generator.suggest(9)
        rest = generator.suggest(2)
        assert len({p["_id"] for p in first + rest}) == 3
        generator.ingest([{**p, "f": 1.0} for p in first + rest])
        assert len(generator.suggest(None)) == 3

    def test_foreign_points_can_be_the_best(self, vocs: Any) -> None:
        from vamo_bbo.integrations.gest import VamoGenerator

        generator = VamoGenerator(vocs, "zo-sgd", rng=0)
        generator.ingest([{"a": 1.0, "b": 0.5, "f": 0.0}])
        points = generator.suggest(None)
        generator.ingest([{**p, "f": 5 + loss(p["a"], p["b"])} for p in points])
        assert generator.best["a"] == pytest.approx(1.0)

    def test_what_it_cannot_do_is_said(self) -> None:
        module = pytest.importorskip("gest_api.vocs")
        from vamo_bbo.integrations.gest import VamoGenerator

        with pytest.raises(ValueError, match="cannot accept constraints"):
            VamoGenerator(
                module.VOCS(variables={"a": [0, 1]}, objectives={"f": "MINIMIZE"}, constraints={"g": ["LESS_THAN", 0]})
            )
        with pytest.raises(ValueError, match="needs one objective"):
            VamoGenerator(module.VOCS(variables={"a": [0, 1]}, objectives={"f": "MINIMIZE", "g": "MINIMIZE"}))


@pytest.mark.slow
def test_optuna_dashboard_opens_an_export(tmp_path: Path) -> None:
    """The real dashboard serves the exported study: names, values, and failed trials."""
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("optuna_dashboard")
    pytest.importorskip("cmaes")

    def fun(a: float, n: int) -> float:
        if n == 9:
            raise ValueError("too many")
        return (a - 1) ** 2 + n

    space = vb.Space(a=vb.Real(0, 4), n=vb.Integer(1, 9))
    vb.minimize(fun, space, method="cma", rng=0, maxfev=60, journal=tmp_path / "run.db")
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    assert main(["export", str(tmp_path / "run.db"), storage]) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", code, storage, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        studies = _asked(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        study_id = studies[0].get("study_id", studies[0].get("id"))
        detail = _asked(f"http://127.0.0.1:{port}/api/studies/{study_id}?after=0")
    finally:
        server.kill()
        server.wait()
    trials = detail["trials"]
    assert len(trials) == len(load(tmp_path / "run.db").evaluations["value"])
    states = {t["state"] for t in trials}
    assert "Complete" in states
    best = optuna.load_study(study_name="vamo_bbo", storage=storage).best_value
    assert best == pytest.approx(min(v for t in trials if t["state"] == "Complete" for v in t["values"]))


def _asked(address: str) -> Any:
    """Return what a server that is starting answers."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return json.loads(reply.read())
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(address)
