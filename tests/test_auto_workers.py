"""``method="auto"`` with several workers: what is asked for fills whole rounds."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vamo_bbo as vb


class Pool:
    """Workers that tell how many they are, and count rounds; ``fun`` outside of them is a round of its own."""

    def __init__(self, workers, fun):
        self._max_workers, self.fun = workers, fun
        self.sizes, self.inside = [], False

    def __call__(self, function, points):
        points = list(points)
        self.sizes.append(len(points))
        self.inside = True
        try:
            return [function(point) for point in points]
        finally:
            self.inside = False

    def value(self, x):
        if not self.inside:
            self.sizes.append(1)
        return self.fun(x)

    @property
    def rounds(self):
        return sum(math.ceil(size / self._max_workers) for size in self.sizes)


def bowl(x):
    return float(((x - 1.0) ** 2 * np.arange(1, x.size + 1)).sum())


def with_noise(seed=0):
    random = np.random.default_rng(seed)
    return lambda x: bowl(x) + 0.1 * random.standard_normal()


def test_noise_in_rounds():
    pool = Pool(8, with_noise())
    result = vb.minimize(pool.value, np.full(5, 3.0), workers=pool, maxfev=320, rng=0)
    assert result.message.startswith("auto chose quadratic")
    assert result.nfev == sum(pool.sizes) <= 320
    assert pool.rounds < 1.2 * 320 / 8  # the values at the answer, too, are evaluated together
    assert bowl(result.x) < 0.05
    assert abs(result.fun - bowl(result.x)) < 5 * result.fun_std < 0.2


def test_noise_with_a_journal_in_rounds(tmp_path):
    result = vb.minimize(
        with_noise(),
        np.full(5, 3.0),
        workers=ThreadPoolExecutor(3),
        noisy=True,
        maxfev=200,
        rng=0,
        journal=tmp_path / "j",
    )
    assert result.message.startswith("auto chose quadratic")
    assert 150 / 3 < result.nit < 200 / 3 + 2
    assert bowl(result.x) < 0.2


def test_generations_are_whole_rounds():
    pool = Pool(8, with_noise())
    result = vb.minimize(pool.value, np.full(30, 3.0), workers=pool, noisy=True, maxfev=800, rng=0)
    assert result.message.startswith("auto chose cma")
    assert pool.sizes.count(16) > 0.8 * len(pool.sizes)
    assert pool.rounds < 1.1 * 800 / 8  # the values at the answer, too, are evaluated together


def test_a_descent_takes_the_same_way_with_any_number_of_workers():
    def rosenbrock(x):
        return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    pools = [Pool(count, rosenbrock) for count in (2, 4, 16)]
    ends = [vb.minimize(pool.value, np.tile([-1.2, 1.0], 3), workers=pool, rng=0) for pool in pools]
    assert len({end.x.tobytes() for end in ends}) == 1
    assert bowl(ends[0].x) < 1e-6
    assert pools[2].rounds < 0.7 * pools[1].rounds < 0.6 * pools[0].rounds


def test_a_pool_that_does_not_tell_is_one_of_eight():
    sizes = []

    def pool(function, points):
        points = list(points)
        sizes.append(len(points))
        return [function(point) for point in points]

    vb.minimize(with_noise(), np.full(5, 3.0), workers=pool, noisy=True, maxfev=200, rng=0)
    assert sizes.count(8) > 0.7 * len(sizes)


@pytest.mark.parametrize("method", ["auto", vb.spsa(n_directions=3)])
def test_the_values_at_the_answer_are_taken_by_the_workers(method):
    threads = []

    def fun(x):
        threads.append(threading.current_thread())
        return bowl(x) + 0.1 * random.standard_normal()

    random = np.random.default_rng(0)
    with ThreadPoolExecutor(4) as pool:
        vb.minimize(fun, np.full(3, 2.0), method=method, workers=pool, noisy=True, maxfev=200, rng=0)
    assert len(threads) > 150
    assert threading.main_thread() not in threads[-100:]


def test_a_population_joins_where_failures_hold_the_gradients_up():
    """The lowest value within the unit ball is at distance 2 - 1 from (1, 1, 1, 1), but for the weights."""

    def fun(x):
        if x @ x > 1.0:
            raise RuntimeError("the simulation diverged")
        return float(((x - 1.0) ** 2).sum())

    pool = Pool(8, fun)
    result = vb.minimize(pool.value, np.array([-0.4, 0.1, -0.3, 0.2]), workers=pool, maxfev=400, rng=0)
    assert 0.0 <= result.fun - 1.0 < 0.02
    assert pool.rounds < 100
