"""The attacks that ``attacks.py`` compares: ours through ``vamo_bbo.minimize``, the field's by an adapter each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vamo_bbo as vb
from problems.attack import Basis, ImageAttack, Modulated, Pixels, Predict, Tiles, stripes
from problems.corner_search import CornerSearch, tile_levels
from problems.data import require
from problems.problem import Array

Attack = Callable[["Watched", int], None]


class AttackOver(BaseException):
    """Ends any attack, ours or a peer's, from inside the model; no ``Exception``, so that none is in its way."""


class Watched:
    """The model as every method sees it: it counts, and ends the run at the first success or at the budget."""

    def __init__(self, predict: Callable[[Array], Array], image: Array, label: int, epsilon: float, budget: int):
        self.predict, self.image, self.label, self.epsilon, self.budget = predict, image, label, epsilon, budget
        self.count, self.success = 0, False

    def __call__(self, images: Array) -> Array:
        """Classify (k, c, h, w) images; those beyond the budget are not."""
        images = np.asarray(images, dtype=float).reshape(-1, *self.image.shape)
        images = images[: self.budget - self.count]
        scores = self.predict(images)
        near = np.max(np.abs(images - self.image), axis=(1, 2, 3)) <= self.epsilon + 1e-6
        hits = np.flatnonzero(near & (scores.argmax(axis=1) != self.label))
        if hits.size:
            self.count, self.success = self.count + int(hits[0]) + 1, True
            raise AttackOver
        self.count += len(images)
        if self.count >= self.budget:
            raise AttackOver
        return scores


def search(objective: ImageAttack, start: float, method: Any, maxfev: int, seed: int, **more: Any) -> None:
    """Minimize an attack's objective over its box from a point of equal coordinates."""
    vb.minimize(
        objective.rows,
        np.full(objective.size, start),
        method=method,
        bounds=[(-1.0, 1.0)] * objective.size,
        vectorized=True,
        noisy=False,
        rng=seed,
        maxfev=maxfev,
        **more,
    )


def ours(method: str, basis: Callable[[tuple[int, int, int]], Basis], **options: Any) -> Attack:
    """Return an attack by one of our methods in a basis."""

    def attack(model: Watched, seed: int) -> None:
        objective = ImageAttack(model, model.image, model.label, epsilon=model.epsilon, basis=basis(model.image.shape))
        search(objective, 0.0, method, model.budget + 1000, seed, options=options)

    return attack


def corner_objective(
    predict: Predict, image: Array, label: int, epsilon: float, *, seed: int, tiles: bool = True
) -> tuple[ImageAttack, CornerSearch]:
    """Return objective and solver of an attack by corner search: on pixels, or on random stripes where there is colour.

    Without ``tiles`` the basis is pixels and the blocks are SignHunter's.
    """
    shape = (image.shape[0], image.shape[1], image.shape[2])
    basis: Basis = Pixels(shape)
    levels = tile_levels(shape, (14, 7, 4, 2, 1)) if tiles else None
    if tiles and shape[0] == 3:
        basis = Modulated(Tiles(shape, 32), stripes(shape, np.random.default_rng(seed)))
        levels = tile_levels((3, 32, 32), (8, 4, 2, 1))
    return ImageAttack(predict, image, label, epsilon=epsilon, basis=basis), CornerSearch(levels)


def corners(model: Watched, seed: int, *, tiles: bool = True) -> None:
    """Attack by :class:`problems.corner_search.CornerSearch`, started with all signs positive."""
    objective, solver = corner_objective(model, model.image, model.label, model.epsilon, seed=seed, tiles=tiles)
    search(objective, 1.0, solver, model.budget + 1000, seed)


def nes(model: Watched, seed: int, *, pairs: int = 25, sigma: float = 0.1, step: float = 0.1) -> None:
    """Attack by antithetic Gaussian differences and sign steps on pixels (Ilyas et al. 2018, arXiv:1804.08598)."""
    rng = np.random.default_rng(seed)
    objective = ImageAttack(model, model.image, model.label, epsilon=model.epsilon)
    x = np.zeros(objective.size)
    while True:
        u = rng.standard_normal((pairs, objective.size))
        values = objective.rows(np.vstack([x + sigma * u, x - sigma * u]))
        x = np.clip(x - step * np.sign((values[:pairs] - values[pairs:]) @ u), -1, 1)


def square(model: Watched, seed: int, *, p: float) -> None:
    """Attack by random squares (Andriushchenko et al., ECCV 2020, Algorithm 2), one query a step.

    ART asks twice a step and starts with p = 0.8; this is the algorithm as published, ``p`` the first share of the
    image, halved at the published steps of 10,000.
    """
    rng, (channels, height, width) = np.random.default_rng(seed), model.image.shape
    objective = ImageAttack(model, model.image, model.label, epsilon=model.epsilon)
    x = stripes((channels, height, width), rng)
    best = objective(x.ravel())
    for step in range(1_000_000):
        halvings = int(np.searchsorted((10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000), step))
        side = min(max(round(np.sqrt(p * height * width / 2**halvings)), 1), height - 1)
        row, column = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        trial = x.copy()
        trial[:, row : row + side, column : column + side] = rng.choice([-1.0, 1.0], (channels, 1, 1))
        if np.array_equal(trial, x):
            continue
        value = objective(trial.ravel())
        if value < best:
            x, best = trial, value


def art(name: str, **options: Any) -> Attack:
    """Return an attack of ART; its own global generator is seeded."""

    def attack(model: Watched, seed: int) -> None:
        module = require("art.attacks.evasion", "adversarial-robustness-toolbox", why="A peer's attack")
        estimators = require("art.estimators.classification", "adversarial-robustness-toolbox", why="A peer's attack")

        def predict(images: Array) -> Array:
            scores = model(images)
            exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
            return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))

        n_classes = model.predict(model.image[None]).shape[1]
        estimator = estimators.BlackBoxClassifierNeuralNetwork(
            predict, model.image.shape, n_classes, channels_first=True, clip_values=(0, 1)
        )
        arguments = {key: (model.epsilon if value == "epsilon" else value) for key, value in options.items()}
        np.random.seed(seed)  # noqa: NPY002 - ART draws from the global generator
        label = np.zeros((1, n_classes), dtype=np.float32)
        label[0, model.label] = 1
        getattr(module, name)(estimator, **arguments).generate(model.image[None].astype(np.float32), y=label)

    return attack


def foolbox(name: str, **options: Any) -> Attack:
    """Return an attack of Foolbox in the L-infinity ball; its own global generator is seeded."""

    def attack(model: Watched, seed: int) -> None:
        module = require("foolbox", why="A peer's attack")
        eager = require("eagerpy", why="A peer's attack")
        wrapped = module.models.NumPyModel(
            lambda images: model(images).astype(np.float32), bounds=(0, 1), data_format="channels_first"
        )
        np.random.seed(seed)  # noqa: NPY002 - Foolbox draws from the global generator
        images, labels = eager.astensors(model.image[None].astype(np.float32), np.array([model.label]))
        getattr(module.attacks, name)(**options)(wrapped, images, labels, epsilons=[model.epsilon])

    return attack


BLOCK: dict[str, Any] = {"law": "block", "smoothing": 0.02}
"""Orthogonal directions; small steps, because differences are centred that far inside the box."""

METHODS: dict[str, Attack] = {
    "ours corners": corners,
    "ours corners, halves": lambda model, seed: corners(model, seed, tiles=False),
    "ours sign tiles": ours("zo-sign-sgd", lambda shape: Tiles(shape, 14), n_directions=49, learning_rate=0.3, **BLOCK),
    "ours adamm pixels": ours("zo-adamm", Pixels, n_directions=25, learning_rate=0.2, smoothing=0.02),
    "Square p=0.05": lambda model, seed: square(model, seed, p=0.05),
    "NES": nes,
    "ART Square": art("SquareAttack", norm=np.inf, eps="epsilon", max_iter=10_000, nb_restarts=1, verbose=False),
    "ART SimBA": art("SimBA", attack="px", epsilon="epsilon", max_iter=10_000, order="random", verbose=False),
    "ART HopSkipJump": art(
        "HopSkipJump", norm=np.inf, max_iter=200, max_eval=1000, init_eval=20, init_size=100, verbose=False
    ),
    "ART ZOO": art(
        "ZooAttack",
        learning_rate=0.1,
        max_iter=5000,
        use_resize=False,
        use_importance=False,
        nb_parallel=32,
        variable_h=0.1,
        verbose=False,
    ),
    "Foolbox HopSkipJump": foolbox("HopSkipJumpAttack", steps=200, constraint="linf"),
    "Foolbox noise": foolbox("LinfRepeatedAdditiveUniformNoiseAttack", repeats=10_000),
}
"""By name. ART's and Foolbox's attacks have their defaults but for lengths beyond any budget."""
