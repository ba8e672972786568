"""Objectives that several tests minimize."""

from __future__ import annotations

import numpy as np


class Counted:
    """An objective that keeps what it was asked."""

    def __init__(self, fun):
        self.fun, self.points, self.values = fun, [], []

    def __call__(self, x):
        self.points.append(np.array(x))
        self.values.append(float(self.fun(x)))
        return self.values[-1]


def rosenbrock(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
