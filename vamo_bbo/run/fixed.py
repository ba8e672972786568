"""The end of a run before it begins: bounds that leave no variable free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProblemInfo

__all__ = ["Fixed"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """The solver of an objective without a free variable: x0, which has been evaluated, is the answer."""

    name: str = "fixed"

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return a state that holds nothing."""
        return State(seed, backend, info, arrays={"x": x0}, versions={"x": 0})

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Ask for nothing."""
        return ()

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Return ``state``."""
        return state

    def status(self, state: State) -> Status | None:
        """Say what scipy says."""
        return Status(0, True, "All independent variables were fixed by bounds.")

    def recommend(self, state: State) -> Any:
        """Return the empty point."""
        return state.arrays["x"]
