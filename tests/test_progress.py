"""The progress line without tqdm and rich."""

import io

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.run import progress
from vamo_bbo.run.progress import _Plain


def test_the_line_shows_rate_failures_and_the_time_left() -> None:
    now, stream = [100.0], io.StringIO()
    line = _Plain(1000, stream, clock=lambda: now[0])
    line.show(400, 10, 0.5, 0)  # a resumed run: these 400 took no time now
    now[0] += 10.0
    line.show(450, 12, 0.25, 3)
    line.close()
    first, last = stream.getvalue().strip().split("\r")[:2]
    assert first == "minimize: 400/1000 evaluations, step 10, fun 0.5"
    assert last == "minimize: 450/1000 evaluations, step 12, fun 0.25, 3 failed, 5/s, 0:01:50 left"


def test_without_a_limit_there_is_no_time_left() -> None:
    now, stream = [0.0], io.StringIO()
    line = _Plain(None, stream, clock=lambda: now[0])
    line.show(1, 1, 2.0, 0)
    now[0] += 2.0
    line.show(11, 2, 1.0, 1)
    assert stream.getvalue().endswith("minimize: 11 evaluations, step 2, fun 1, 1 failed, 5/s")


def test_a_shorter_line_leaves_nothing_of_a_longer_one() -> None:
    now, stream = [0.0], io.StringIO()
    line = _Plain(None, stream, clock=lambda: now[0])
    line.show(1, 1, 0.123456, 0)
    now[0] += 1.0
    line.show(1, 1, 0.1, 0)
    first, second = stream.getvalue().split("\r")[1:]
    assert len(second) >= len(first)


@pytest.mark.parametrize("noisy", [False, True])
def test_a_run_in_stages_has_one_line(monkeypatch: pytest.MonkeyPatch, noisy: bool) -> None:
    shown: list[int] = []

    class Line:
        made = closed = 0

        def __init__(self, total: int | None) -> None:
            Line.made += 1

        def show(self, nfev: int, nit: int, fun: float, n_failed: int) -> None:
            shown.append(nfev)

        def close(self) -> None:
            Line.closed += 1

    monkeypatch.setattr(progress, "_line", Line)
    rng = np.random.default_rng(0)

    def fun(x: np.ndarray) -> float:
        return float(((x - 1) ** 2).sum()) + 0.1 * rng.standard_normal() * noisy

    result = vb.minimize(fun, np.full(3, 3.0), maxfev=200, progress=True, noisy=noisy)
    assert (Line.made, Line.closed) == (1, 1)
    assert 1 < max(shown) <= result.nfev
