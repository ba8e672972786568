"""What a worker process does with a message: materialize the point if it came as a handle, and evaluate.

Points and answers, one pair for every evaluation, cross as plain tuples and bytes: a pickle of the named tuples and of
an array takes twenty times as long.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import AnchorRef, Answer, Probe
from vamo_bbo.run.objective import Objective

__all__ = ["Declare", "Handle", "Missing", "Point", "Tasks", "packed", "unpacked"]

_HERE = AnchorRef("point", 0)


class Point(NamedTuple):
    """Evaluate ``probe`` at ``z``; ``first`` asks for what x0 shows about the objective, too."""

    probe: Probe
    z: Array
    seed: int
    first: bool = False


class Declare(NamedTuple):
    """Complete the objective's ``info``."""

    facts: Mapping[str, Any]


class SharedArray(NamedTuple):
    """An array in a file that this machine's processes map: path, shape and dtype."""

    path: str
    shape: tuple[int, ...]
    dtype: str


class Handle(NamedTuple):
    """Evaluate ``probe``, whose anchor and stored directions are in shared files."""

    probe: Probe
    seed: int
    backend: str
    arrays: Mapping[str, SharedArray]
    """State arrays by name."""
    version: int
    """Version of the anchor, so that the worker knows when to map it anew."""
    sent: Mapping[str, Array] | None = None
    """The arrays themselves, for a worker on another machine, which keeps them for the handles that follow."""


class Missing(Exception):
    """A worker has neither the arrays of a handle nor the file system that holds them."""


Message: TypeAlias = Point | Declare | Handle


def packed(message: Message) -> Any:
    """Return what is sent for ``message``: of a point, only what its evaluation reads."""
    if not isinstance(message, Point):
        return message
    probe, z, seed, first = message
    return probe.id, probe.want, probe.batch, probe.noise, z.dtype.str, z.tobytes(), seed, first


def unpacked(sent: Any) -> Message:
    """Return the message that was sent.

    Examples
    --------
    >>> point = Point(Probe((3, 0, 0, 1), AnchorRef("x", 2)), np.array([1.0, 2.0]), 7)
    >>> again = unpacked(packed(point))
    >>> again.probe.id, again.z.tolist(), again.seed
    ((3, 0, 0, 1), [1.0, 2.0], 7)
    """
    if isinstance(sent, (Declare, Handle)):
        return sent
    probe_id, want, batch, noise, dtype, z, seed, first = sent
    # frombuffer of immutable bytes would be read-only; the objective may write to its argument
    return Point(Probe(probe_id, _HERE, None, 0.0, batch, want, noise), np.frombuffer(bytearray(z), dtype), seed, first)


class Tasks:
    """A worker's objective, and the arrays it has mapped."""

    def __init__(self, objective: Objective, name: str) -> None:
        self.objective, self.name = objective, name
        self.state: State | None = None
        self.paths: dict[str, str] = {}

    def handle(self, message: Message) -> Answer | tuple[Answer, dict[str, Any]] | None:
        """Return the reply to ``message``."""
        if isinstance(message, Declare):
            self.objective.declare(**message.facts)
            return None
        try:
            return self._evaluated(message)
        except SystemExit as error:  # of the evaluation: the worker goes on
            failed = self.objective.failure(message.probe, error)._replace(worker=self.name)
            return (failed, {}) if isinstance(message, Point) and message.first else failed

    def _evaluated(self, message: Point | Handle) -> Answer | tuple[Answer, dict[str, Any]]:
        if isinstance(message, Handle):
            state = self._mapped(message)
            z = materialize(state, message.probe, np.empty_like(state.arrays[message.probe.anchor.name]))
            return self.objective.evaluate(message.probe, z, message.seed, self.name)
        if message.first:
            answer, facts = self.objective.first(message.probe, message.z, message.seed)
            return answer._replace(worker=self.name), facts
        return self.objective.evaluate(message.probe, message.z, message.seed, self.name)

    def _mapped(self, message: Handle) -> State:
        """Return a state whose arrays are the shared ones, mapped read-only, or those that were sent.

        Raises
        ------
        Missing
            An array is nowhere to be found.
        """
        state = self.state
        if state is None or state.seed != message.seed or state.backend != message.backend:
            state = self.state = State(message.seed, message.backend, self.objective.info)
            self.paths.clear()
        for name, shared in message.arrays.items():
            if self.paths.get(name) == shared.path:
                continue
            if message.sent is not None:
                state.arrays[name] = message.sent[name]
            elif os.path.exists(shared.path):  # its folder has a random name: no other machine has it
                state.arrays[name] = np.memmap(shared.path, dtype=shared.dtype, mode="r", shape=shared.shape)
            else:
                raise Missing
            self.paths[name] = shared.path
            state.cache.clear()  # bound directions refer to the old arrays
        state.arrays.setdefault("x", state.arrays[message.probe.anchor.name])
        state.versions[message.probe.anchor.name] = message.version
        return state
