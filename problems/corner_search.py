r"""A solver of one file for boxes whose best point is in a corner: flip blocks of coordinates, keep what helps.

In an L-infinity ball adversarial images are found in the corners (Moon, An and Song, ICML 2019, arXiv:1905.06635), and
a corner is a vector of signs. As in SignHunter (Al-Dujaili and O'Reilly, "Sign bits are all you need for black-box
attacks", ICLR 2020) a block of signs is flipped with one value and kept if the value fell; blocks are large first, then
finer. SignHunter's blocks are halves, quarters, ... of the vector; here they may be any partitions, such as the tiles
of an image (:func:`tile_levels`), taken in random order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.problem import Array
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Probe, ProblemInfo


def halving_levels(size: int) -> tuple[Array, ...]:
    """Return SignHunter's partitions of ``size`` coordinates: in 2, 4, ... contiguous blocks, at last each alone.

    Returns
    -------
    tuple of (size,) int arrays
        The number of the block of every coordinate, coarse partitions first.

    Examples
    --------
    >>> [level.tolist() for level in halving_levels(5)]
    [[0, 0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 1, 2, 3, 4]]
    """
    lengths = [math.ceil(size / 2**h) for h in range(1, math.ceil(math.log2(max(size, 2))) + 1)]
    return tuple(np.arange(size) // length for length in dict.fromkeys(lengths))


def tile_levels(shape: tuple[int, int, int], widths: Sequence[int]) -> tuple[Array, ...]:
    """Return partitions of an image into square tiles, a channel at a time.

    Parameters
    ----------
    shape : (c, h, w)
        Grid of the coefficients: the image for pixels, ``(channels, cells, cells)`` for tiles.
    widths : sequence of int
        Width of the tiles on every level, coarse first; the last row and column of tiles may be smaller.

    Returns
    -------
    tuple of (c * h * w,) int arrays
        The number of the tile of every coefficient.

    Examples
    --------
    >>> tile_levels((1, 2, 4), [2])[0].reshape(2, 4).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    channel, row, column = np.indices(shape)
    levels = []
    for width in widths:
        down, across = (math.ceil(length / width) for length in shape[1:])
        levels.append(((channel * down + row // width) * across + column // width).ravel())
    return tuple(levels)


@dataclass(frozen=True, slots=True, eq=False)
class CornerSearch:
    """Greedy search over the corners of a box: one value a flip of one block.

    x0 decides the first corner: the upper bound wherever a coordinate is not below the middle. The value there comes
    first; then one sweep after another goes through all levels and, in random order, through the blocks of each. The
    run ends when a whole sweep has improved nothing.

    Parameters
    ----------
    levels : sequence of (d,) int arrays, optional
        The number of the block of every coordinate, from 0, coarse partitions first; SignHunter's
        (:func:`halving_levels`) if None.

    Notes
    -----
    One value a step, O(d) memory. Values decide by ``<``, so the objective must not be noisy, and a failed value counts
    as no improvement. The order of a level's blocks is drawn from (seed, sweep, level).

    Examples
    --------
    >>> import vamo_bbo as vb
    >>> goal = np.array([1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
    >>> found = vb.minimize(
    ...     lambda x: float(np.sum((x - goal) ** 2)), np.zeros(6), method=CornerSearch(), bounds=[(-1, 1)] * 6, rng=0
    ... )
    >>> found.x.tolist(), found.success
    ([1.0, -1.0, -1.0, 1.0, 1.0, 1.0], True)
    """

    levels: Sequence[Array] | None = None

    def init(self, x0: Array, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        """Return the first state; see :class:`vamo_bbo.core.solver.Solver`.

        Raises
        ------
        CapabilityError
            There are no bounds, or a finite sum is given.
        OptionError
            A level is not an array of d block numbers.
        """
        if info.lower is None or info.upper is None or not np.all(np.isfinite([info.lower, info.upper])):
            raise CapabilityError("CornerSearch: it searches the corners of a box and needs finite bounds=.")
        if info.n_samples is not None:
            raise CapabilityError("CornerSearch: it takes a plain callable, not a FiniteSum.")
        for level in self._levels(x0.size):
            if np.shape(level) != (x0.size,):
                raise OptionError(f"CornerSearch: a level must have shape ({x0.size},), got {np.shape(level)}.")
        state = State(seed, backend, info)
        upper = x0 >= (info.lower + info.upper) / 2
        state.arrays["x"] = np.where(upper, info.upper, info.lower).astype(x0.dtype)
        state.versions["x"] = 0
        state.scalars.update(best=math.inf, sweep=0.0, level=0.0, block=0.0, helped=0.0, over=0.0, ignored=0.0)
        return state

    def ask(self, state: State) -> tuple[Probe, ...]:
        """Return the one open flip; in the first step the corner itself."""
        anchor = state.anchor("x")
        if state.step == 0:
            return (Probe((0, 0, 0, 0), anchor),)
        return (Probe((state.step, 0, 0, 0), anchor, point=self._flipped(state)),)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        """Take the answer; keep the flip if the value fell."""
        for answer in answers:
            if answer.id != (state.step, 0, 0, 0):
                state.scalars["ignored"] += 1
                continue
            if answer.error is None and answer.value < state.scalars["best"]:
                state.scalars["best"] = answer.value
                if state.step:
                    state.arrays["x"][...] = self._flipped(state)
                    state.versions["x"] += 1
                    state.scalars["helped"] += 1
            if state.step:
                self._advance(state)
            state.step += 1
            state.cache.pop("point", None)
        return state

    def status(self, state: State) -> Status | None:
        """Return an ending when no flip of any block improves the corner."""
        if state.scalars["over"]:
            return Status(0, True, "No flip of any block improves this corner.")
        return None

    def recommend(self, state: State) -> Array:
        """Return the best corner."""
        return state.arrays["x"]

    def _levels(self, size: int) -> Sequence[Array]:
        return halving_levels(size) if self.levels is None else self.levels

    def _order(self, state: State) -> tuple[Array, Array]:
        """Return the present level and the order of its blocks."""
        scalars = state.scalars
        key = (int(scalars["sweep"]), int(scalars["level"]))
        if state.cache.get("order", (None,))[0] != key:
            level = np.asarray(self._levels(state.arrays["x"].size)[key[1]])
            order = np.random.default_rng([state.seed, *key]).permutation(int(level.max()) + 1)
            state.cache["order"] = (key, level, order)
        return state.cache["order"][1], state.cache["order"][2]

    def _flipped(self, state: State) -> Array:
        """Return the corner with the present block mirrored in the middle of the box."""
        if "point" not in state.cache:
            level, order = self._order(state)
            lower, upper, x = state.info.lower, state.info.upper, state.arrays["x"]
            assert lower is not None
            assert upper is not None
            inside = level == order[int(state.scalars["block"])]
            state.cache["point"] = np.where(inside, (lower + upper) - x, x).astype(x.dtype)
        point: Array = state.cache["point"]
        return point

    def _advance(self, state: State) -> None:
        """Go on to the next block, level or sweep."""
        scalars = state.scalars
        scalars["block"] += 1
        if scalars["block"] < len(self._order(state)[1]):
            return
        scalars["block"] = 0.0
        scalars["level"] += 1
        if scalars["level"] < len(self._levels(state.arrays["x"].size)):
            return
        scalars["level"] = 0.0
        scalars["over"] = float(scalars["helped"] == 0)
        scalars["sweep"] += 1
        scalars["helped"] = 0.0
