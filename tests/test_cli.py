"""The command line: show, report, export."""

import html.parser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.cli import main, summary
from vamo_bbo.report_charts import lanes
from vamo_bbo.run.load import load

EVIL = "<script>alert('x')</script>"


def fun(p: dict[str, Any]) -> float:
    if p["a"] > 0.7:
        raise ValueError(f"{EVIL} \x1b[2J")
    return float((p["a"] - 0.3) ** 2 + p["b"])


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    space = vb.Space({"a": vb.Real(0, 1), "b": vb.Real(1e-3, 1.0, log=True), "fixed": 3}).starting_at({"a": 0.68})
    path = tmp_path / "run.db"
    vb.minimize(fun, space, method=vb.zo_sgd(0.05, smoothing=0.05), rng=0, maxfev=60, journal=path)
    return path


def test_show(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal)]) == 0
    out = capsys.readouterr().out
    data = load(journal)
    assert f"{len(data.evaluations['value'])} evaluations" in out
    assert f"{len(data.failures)} failed" in out
    assert f"failed {len(data.failures)} x: ValueError" in out
    assert len(data.failures) > 0
    assert "a = 0." in out
    assert "\x1b" not in out


def test_show_follow_ends_with_the_run(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal), "--follow"]) == 0
    assert "budget" in capsys.readouterr().out or load(journal).finished


def test_show_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    seen: list[str] = []
    path = tmp_path / "run.db"

    def callback(intermediate_result: Any) -> None:
        seen.append(summary(load(path)))

    vb.minimize(lambda x: float(x @ x), np.ones(20), method="zo-sgd", maxfev=50, journal=path, callback=callback)
    assert "under way" in seen[0]
    assert "8 more" in seen[0]


def test_a_wrong_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path / "none.db")]) == 1
    assert "There is no journal" in capsys.readouterr().err


def test_params_come_back_from_the_journal(journal: Path) -> None:
    data = load(journal)
    assert data.space == vb.Space({"a": vb.Real(0, 1), "b": vb.Real(1e-3, 1.0, log=True), "fixed": 3})
    assert data.names == ["a", "b"]
    assert data.params[0]["fixed"] == 3
    value = data.evaluations["value"]
    assert fun(data.params[0]) == value[0]
    assert set(data.result.params) == {"a", "b", "fixed"}
    assert all(record.params["fixed"] == 3 for record in data.history)


class Rows:
    """A journal's evaluations without a journal."""

    def __init__(self, *rows: tuple[str, float, float]) -> None:
        names, begin, end = zip(*rows, strict=True)
        self.evaluations = {
            "worker": np.array(names, dtype=object),
            "at": np.array(end),
            "elapsed": np.array(end) - np.array(begin),
        }


def test_a_process_that_replaced_another_one_is_the_same_worker() -> None:
    data: Any = Rows(("a", 0, 1), ("b", 0, 2), ("a", 1, 3), ("c", 5, 6), ("b", 2, 7), ("d", 6.5, 7))
    assert [(lane.name, lane.processes, lane.rows.tolist()) for lane in lanes(data)] == [
        ("worker 1", 3, [0, 2, 3, 5]),
        ("worker 2", 1, [1, 4]),
    ]
    calm: Any = Rows(("host a", 0, 1), ("host b", 0, 2))
    assert [lane.name for lane in lanes(calm)] == ["host a", "host b"]


def test_failures_are_counted_by_kind(tmp_path: Path) -> None:
    calls: list[int] = []

    def flaky(x: np.ndarray) -> float:
        calls.append(1)
        if len(calls) % 3 == 0:
            raise ValueError(f"no convergence after {len(calls)} iterations")
        return float("nan") if len(calls) == 10 else float(x @ x)

    path = tmp_path / "run.db"
    vb.minimize(flaky, np.ones(3), method=vb.zo_sgd(0.05), rng=0, maxfev=30, journal=path)
    data = load(path)
    assert data.kinds_of_failures == [
        ("ValueError: no convergence after 3 iterations", len(calls) // 3),
        ("the objective returned nan", 1),
    ]
    assert data.failed.sum() == len(data.failures)
    assert (data.failed | data.succeeded).all()
    assert not (data.failed & data.succeeded).any()


class Tags(html.parser.HTMLParser):
    """Collects scripts that are not plotly's, and links out of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [f"{tag} {v}" for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:")]


def test_report_is_one_page_and_escapes(journal: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    output = tmp_path / "report.html"
    assert main(["report", str(journal), "-o", str(output)]) == 0
    page = output.read_text()
    assert EVIL not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    tags = Tags()
    tags.feed(page)
    assert tags.outside == []
    for title in ("Convergence", "Parameters", "Parallel coordinates", "Workers", "Failures"):
        assert f"<h2>{title}" in page


def test_report_without_plotly_says_how_to_get_it(journal: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    assert main(["report", str(journal)]) == 1
    assert "pip install 'vamo_bbo[report]'" in capsys.readouterr().err


def test_export_without_optuna_says_how_to_get_it(journal: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vamo_bbo.integrations.optuna", None)
    assert main(["export", str(journal), "study.db"]) == 1
    assert "pip install 'vamo_bbo[integrations]'" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_one_sentence(journal: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("plotly")
    assert main(["report", str(journal), "-o", str(tmp_path / "none" / "report.html")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_report_in_a_browser(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("cmaes")
    space = vb.Space({"a<i>": vb.Real(0, 1), "kind": vb.Choice(["plain", EVIL]), "n": vb.Integer(1, 9)})

    def mixed(p: dict[str, Any]) -> float:
        if p["n"] == 9:
            raise ValueError(EVIL)
        return float((p["a<i>"] - 0.3) ** 2 + p["n"] + (p["kind"] == EVIL))

    vb.minimize(mixed, space, method="cma", rng=0, maxfev=80, journal=tmp_path / "run.db")
    output = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "run.db"), "-o", str(output)]) == 0
    flags = ["--headless", "--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
    command = ["chromium", *flags, "--virtual-time-budget=10000", "--dump-dom", output.as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout
    assert page.count('class="plot-container') == 4
    for label in ("best so far", "evaluation", "value", "this process", "succeeded"):
        assert f">{label}</text>" in page
    assert "<script>alert" not in page
