"""A swimming robot simulated with MuJoCo: find a linear policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from problems.data import require
from problems.problem import Array, Built, Problem


def swimmer(x: Array, steps: int = 200) -> float:
    """Return minus the reward of an episode of Swimmer-v5 under the linear policy ``clip(X observation, -1, 1)``.

    Parameters
    ----------
    x : (16,) array
        The policy's matrix (2, 8) by rows.
    steps : int
        Length of the episode.
    """
    environment = _environment()
    policy = np.asarray(x, dtype=float).reshape(2, 8)
    observation, _ = environment.reset(seed=0)
    total = 0.0
    for _ in range(steps):
        observation, reward, *_ = environment.step(np.clip(policy @ observation, -1, 1))
        total += float(reward)
    return -total


_ENVIRONMENT: dict[str, Any] = {}


def _environment() -> Any:
    if "swimmer" not in _ENVIRONMENT:
        require("mujoco", "gymnasium[mujoco]", why="The swimmer")
        gymnasium = require("gymnasium", "gymnasium[mujoco]", why="The swimmer")
        _ENVIRONMENT["swimmer"] = gymnasium.make("Swimmer-v5").unwrapped
    return _ENVIRONMENT["swimmer"]


def _build_swimmer() -> Built:
    """Return the policy search, started at a small random policy."""
    _environment()
    return Built(swimmer, 0.1 * np.random.default_rng(0).standard_normal(16))


def problems() -> Iterable[Problem]:
    """Return the policy search."""
    yield Problem(
        "swimmer",
        16,
        "simulator",
        "Linear policy of MuJoCo's Swimmer, 200 steps.",
        _build_swimmer,
        "15 ms",
        "Apache-2.0 (MuJoCo), MIT (gymnasium)",
        None,
        ("gymnasium[mujoco]",),
    )
