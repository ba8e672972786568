"""The result object: pictures, pickling, history."""

from __future__ import annotations

import builtins
import pickle

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

import vamo_bbo as vb

pytest.importorskip("matplotlib")


def bowl(x):
    if bowl.calls is not None:
        bowl.calls += 1
        if bowl.calls % 7 == 0:
            raise ValueError("boom")
    return float(((x - 1) ** 2).sum())


bowl.calls = None


@pytest.fixture(params=["spsa", "L-BFGS-B", "cma", "auto"])
def result(request):
    bowl.calls = None
    return vb.minimize(bowl, [3.0, 0.0], method=request.param, rng=1, maxfev=120)


def test_it_is_scipys_result_and_pickles(result):
    assert isinstance(result, OptimizeResult)
    again = pickle.loads(pickle.dumps(result))
    assert np.array_equal(again.x, result.x)
    assert again.message == result.message
    with pytest.raises(AttributeError):
        result.bogus  # noqa: B018
    assert "plot" not in result


def test_plot_shows_the_best_value_falling(result):
    axis = result.plot().axes[0]
    heights = axis.lines[-1].get_ydata()
    assert (np.diff(heights) <= 0).all()
    assert heights[-1] == pytest.approx(result.fun)


def test_plot_goes_on_to_the_last_evaluation(result):
    assert result.plot().axes[0].lines[-1].get_xdata()[-1] == result.nfev_samples


def test_plot_of_a_single_record_shows_it():
    line = vb.minimize(bowl, [3.0, 0.0], method="L-BFGS-B", maxfev=1).plot().axes[0].lines[-1]
    assert line.get_xdata().tolist() == [1]
    assert line.get_marker() == "o"


def test_the_text_of_a_result_is_short():
    bowl.calls = 0
    text = repr(vb.minimize(bowl, [3.0, 0.0], method="spsa", rng=1, maxfev=60))
    bowl.calls = None
    assert "boom" in text
    assert "Traceback" not in text
    assert "<History: " in text


def test_the_result_of_an_optimizer_has_a_picture():
    opt = vb.Optimizer([3.0, 0.0], "spsa", rng=1, maxfev=60)
    while not opt.stop():
        opt.tell(trials := opt.ask(), [bowl(t.x) for t in trials])
    assert opt.result.plot().axes[0].get_ylabel() == "objective"


def test_plot_of_failures_and_step_size():
    bowl.calls = 0
    result = vb.minimize(bowl, [3.0, 0.0], method="spsa", rng=1, maxfev=120)
    bowl.calls = None
    labels = [axis.get_ylabel() for axis in result.plot().axes]
    assert labels == ["objective", "step size", "failed evaluations"]


def test_plot_into_given_axes():
    from matplotlib.figure import Figure

    figure = Figure()
    result = vb.minimize(bowl, [3.0, 0.0], method="spsa", rng=1, maxfev=60)
    assert result.plot(figure.subplots(2)) is figure
    assert len(figure.axes) == 2


def test_plot_says_what_is_missing(monkeypatch):
    from vamo_bbo.plot import plot

    with pytest.raises(vb.OptionError, match="no history"):
        plot(OptimizeResult(x=np.zeros(1)))
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    result = vb.minimize(bowl, [3.0], method="BFGS")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(vb.CapabilityError, match=r"vamo_bbo\[report\]"):
        result.plot()


def test_history_of_a_long_run_is_bounded():
    result = vb.minimize(bowl, [3.0], method="zo-sgd", rng=1, maxfev=30000, options={"learning_rate": 1e-6})
    assert len(result.history) <= 10_001 < result.nit
    assert result.history[-1].nit == result.nit
