"""Common random numbers: one round, one noise."""

from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb


def quadratic(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


@pytest.mark.parametrize("kind", ["seed", "rng"])
def test_a_round_shares_its_noise_and_rounds_differ(kind: str) -> None:
    draws: list[float] = []

    def fun(x: np.ndarray, **noise: Any) -> float:
        rng = np.random.default_rng(noise["seed"]) if kind == "seed" else noise["rng"]
        draws.append(rng.normal())
        return quadratic(x) + draws[-1]

    vb.minimize(fun, np.zeros(3), method=vb.zo_sgd(0.1, n_directions=3), noisy=kind, rng=0, options={"maxiter": 4})
    assert [len(set(draws[1 + 4 * k : 5 + 4 * k])) for k in range(4)] == [1, 1, 1, 1]
    assert len(set(draws[1:17:4])) == 4


def test_common_noise_cancels_in_differences() -> None:
    def fun(x: np.ndarray, seed: int = 0) -> float:
        return quadratic(x) + 10 * np.random.default_rng(seed).normal()

    method = vb.zo_sgd(0.1, n_directions=3)
    common = vb.minimize(fun, np.zeros(3), method=method, noisy="seed", rng=0, maxfev=400)
    assert quadratic(common.x) < 1e-3
    assert common.fun_std > 0.5  # the value itself stays noisy, and says so


def test_the_run_is_the_same_for_any_number_of_workers() -> None:
    def go(workers: int) -> bytes:
        method = vb.zo_sgd(0.1, n_directions=3)
        options = {"noisy": "seed", "rng": 0, "maxfev": 60, "workers": workers}
        return vb.minimize(noisy, np.zeros(3), method=method, **options).x.tobytes()

    assert go(1) == go(2)


def noisy(x: np.ndarray, seed: int) -> float:
    return quadratic(x) + float(np.random.default_rng(seed).normal() * x[0])


def test_a_vectorized_round_shares_one_seed() -> None:
    seeds: list[int] = []

    def rows(x: np.ndarray, seed: int) -> np.ndarray:
        seeds.append(seed)
        return ((x - 1) ** 2).sum(1)

    method = vb.zo_sgd(0.1, n_directions=3)
    vb.minimize(rows, np.zeros(3), method=method, noisy="seed", vectorized=True, rng=0, options={"maxiter": 3})
    assert len(set(seeds)) == len(seeds) >= 4


def test_wrong_values_are_named() -> None:
    with pytest.raises(vb.OptionError, match="noisy must be None, True, False, or"):
        vb.minimize(quadratic, np.zeros(2), method="zo-sgd", noisy="sed")


@pytest.mark.parametrize("kind", ["seed", "rng"])
@pytest.mark.parametrize("method", [vb.zo_svrg(0.2, n_directions=2, batch_size=4), "vamo"])
def test_finite_sums_take_common_noise(kind: str, method: Any) -> None:
    targets = np.arange(12.0)
    shared: dict[int, set[float]] = {}

    def noise(numbers: dict[str, Any]) -> float:
        rng = np.random.default_rng(numbers["seed"]) if kind == "seed" else numbers["rng"]
        return float(rng.normal())

    def losses(x: np.ndarray, idx: np.ndarray, **numbers: Any) -> np.ndarray:
        drawn = noise(numbers)
        shared.setdefault(len(shared), set()).add(drawn)
        return (x[0] - targets[idx] / 12) ** 2 + 100 * drawn

    def grad(x: np.ndarray, idx: np.ndarray, **numbers: Any) -> np.ndarray:
        assert np.isfinite(noise(numbers))
        return np.array([2 * (x[0] - (targets[idx] / 12).mean())])

    problem = vb.FiniteSum(losses, 12, grad if method == "vamo" else None, check_grad=False)
    result = vb.minimize(problem, [3.0], method=method, noisy=kind, rng=0, maxfev=6000)
    assert result.x[0] == pytest.approx(11 / 24, abs=0.1)
    assert len({d for drawn in shared.values() for d in drawn}) > 10
