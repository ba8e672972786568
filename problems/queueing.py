"""A tandem queue simulated with simpy: choose the speeds of the servers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from problems.data import require
from problems.problem import Array, Built, Problem, Reference

ARRIVALS = 1.0
CAPACITY_PRICE = 0.5


def tandem_queue(x: Array, n_customers: int = 600, seeds: tuple[int, ...] = (0, 1)) -> float:
    """Return mean time in a line of single servers plus the price of their speeds.

    Parameters
    ----------
    x : (k,) array
        Logarithms of the k service rates. Customers arrive at rate 1; a server slower than that lets a queue grow.
    n_customers : int
        Customers a replication.
    seeds : tuple of int
        Replications.
    """
    rates = np.exp(np.asarray(x, dtype=float))
    times = [_one_day(rates, n_customers, seed) for seed in seeds]
    return float(np.mean(times) + CAPACITY_PRICE * np.sum(rates))


def _one_day(rates: Array, n_customers: int, seed: int) -> float:
    """Return the mean time in system of one replication."""
    simpy = require("simpy", why="The queue")
    rng = np.random.default_rng(seed)
    arrivals = rng.exponential(1 / ARRIVALS, n_customers)
    work = rng.exponential(1.0, (n_customers, rates.size))
    environment = simpy.Environment()
    servers = [simpy.Resource(environment) for _ in rates]
    spent: list[float] = []

    def customer(number: int) -> Any:
        since = environment.now
        for server, need, speed in zip(servers, work[number], rates, strict=True):
            with server.request() as turn:
                yield turn
                yield environment.timeout(need / speed)
        spent.append(environment.now - since)

    def source() -> Any:
        for number in range(n_customers):
            yield environment.timeout(arrivals[number])
            environment.process(customer(number))

    environment.process(source())
    environment.run()
    return float(np.mean(spent))


def _build_queue(stations: int) -> Built:
    """Return the staffing of ``stations`` servers, started at rate 4 each."""
    box = np.tile([np.log(0.8), np.log(10.0)], (stations, 1))
    return Built(tandem_queue, np.full(stations, np.log(4.0)), bounds=box)


def problems() -> Iterable[Problem]:
    """Return the staffing of three servers."""
    yield Problem(
        "queue-staffing",
        3,
        "simulator",
        "Service rates of three servers in line: time in system against the price of speed.",
        partial(_build_queue, 3),
        "40 ms",
        "MIT (simpy)",
        Reference(5.63582706534872, "Nelder-Mead from the optimum of an endless day, where it is 5.743", 1e-3, False),
        ("simpy",),
    )
