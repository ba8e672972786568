"""Robots simulated with MuJoCo: find a linear policy that swims or runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
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
    return _episode("Swimmer-v5", np.reshape(x, (2, 8)), steps)


def half_cheetah(x: Array, steps: int = 200) -> float:
    """Return minus the reward of an episode of HalfCheetah-v5 under the linear policy ``clip(X observation, -1, 1)``.

    Parameters
    ----------
    x : (102,) array
        The policy's matrix (6, 17) by rows.
    steps : int
        Length of the episode.
    """
    return _episode("HalfCheetah-v5", np.reshape(x, (6, 17)), steps)


def _episode(name: str, policy: Array, steps: int) -> float:
    """Return minus the sum of rewards; every episode starts in the same state, so the value is deterministic."""
    environment = _environment(name)
    observation, _ = environment.reset(seed=0)
    total = 0.0
    for _ in range(steps):
        observation, reward, *_ = environment.step(np.clip(policy @ observation, -1, 1))
        total += float(reward)
    return -total


_ENVIRONMENTS: dict[str, Any] = {}


def _environment(name: str) -> Any:
    if name not in _ENVIRONMENTS:
        require("mujoco", "gymnasium[mujoco]", why="The robot")
        gymnasium = require("gymnasium", "gymnasium[mujoco]", why="The robot")
        _ENVIRONMENTS[name] = gymnasium.make(name).unwrapped
    return _ENVIRONMENTS[name]


def _build_swimmer() -> Built:
    """Return the policy search, started at a small random policy."""
    _environment("Swimmer-v5")
    return Built(swimmer, 0.1 * np.random.default_rng(0).standard_normal(16))


def _build_half_cheetah(size: int) -> Built:
    """Return the policy search, started at the policy that does nothing."""
    _environment("HalfCheetah-v5")
    return Built(half_cheetah, np.zeros(size))


def problems() -> Iterable[Problem]:
    """Return the two policy searches."""
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
    yield Problem(
        "half-cheetah",
        102,
        "simulator",
        "Linear policy of MuJoCo's HalfCheetah, 200 steps.",
        partial(_build_half_cheetah, 102),
        "11 ms",
        "Apache-2.0 (MuJoCo), MIT (gymnasium)",
        None,
        ("gymnasium[mujoco]",),
    )
