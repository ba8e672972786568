r"""Black-box adversarial attacks as objectives, for any ``predict(images) -> scores``.

A model is a callable that takes a stack of images, (k, c, h, w) in 0..1, and returns one row of scores per image,
(k, classes): logits or log-probabilities. Nothing else of it is used, so an ONNX session, a torch module, a
scikit-learn pipeline and a remote service all serve. The variables are the coefficients of a perturbation in a basis:
pixels, tiles, or low frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import scipy.fft

from problems.problem import Array

Predict: TypeAlias = Callable[[Array], Array]
Loss: TypeAlias = Literal["margin", "cross-entropy"]
Shape: TypeAlias = tuple[int, int, int]


class QueryBudgetSpent(RuntimeError):
    """More images were to be classified than the budget allows; none of that call was."""


class Queries:
    """A model that counts the images it classifies, and refuses those beyond its budget.

    Parameters
    ----------
    predict : callable
        The model.
    budget : int, optional
        Most images.

    Attributes
    ----------
    count : int
        Images classified so far.

    Examples
    --------
    >>> model = Queries(lambda images: np.zeros((len(images), 2)), budget=3)
    >>> _ = model(np.zeros((2, 1, 4, 4)))
    >>> model.count
    2
    """

    def __init__(self, predict: Predict, budget: int | None = None) -> None:
        self.predict, self.budget, self.count = predict, budget, 0

    def __call__(self, images: Array) -> Array:
        """Classify the images, (k, c, h, w) -> (k, classes).

        Raises
        ------
        QueryBudgetSpent
            They do not fit into the budget.
        """
        if self.budget is not None and self.count + len(images) > self.budget:
            raise QueryBudgetSpent(f"{len(images)} more images do not fit into the budget of {self.budget} queries.")
        self.count += len(images)
        return np.asarray(self.predict(images))


class Basis(Protocol):
    """A linear map from ``size`` coefficients to perturbations of an image."""

    @property
    def size(self) -> int:
        """Number of coefficients."""
        ...

    def __call__(self, coefficients: Array) -> Array:
        """Map (k, size) to (k, c, h, w)."""
        ...


@dataclass(frozen=True, slots=True)
class Pixels:
    """One coefficient a pixel and channel."""

    shape: Shape

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return int(np.prod(self.shape))

    def __call__(self, coefficients: Array) -> Array:
        """Map (k, size) to (k, c, h, w)."""
        return np.asarray(coefficients).reshape(-1, *self.shape)


@dataclass(frozen=True, slots=True)
class Tiles:
    """One coefficient a channel for each cell of a ``cells`` x ``cells`` grid over the image."""

    shape: Shape
    cells: int

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.shape[0] * self.cells**2

    def __call__(self, coefficients: Array) -> Array:
        """Map (k, size) to (k, c, h, w)."""
        channels, height, width = self.shape
        small = np.asarray(coefficients).reshape(-1, channels, self.cells, self.cells)
        rows, columns = (np.arange(length) * self.cells // length for length in (height, width))
        return small[:, :, rows][:, :, :, columns]


@dataclass(frozen=True, slots=True)
class LowFrequencies:
    """The lowest ``waves`` x ``waves`` frequencies of the orthonormal cosine transform, times ``gain``."""

    shape: Shape
    waves: int
    gain: float = 1.0

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.shape[0] * self.waves**2

    def __call__(self, coefficients: Array) -> Array:
        """Map (k, size) to (k, c, h, w)."""
        channels, height, width = self.shape
        small = np.asarray(coefficients).reshape(-1, channels, self.waves, self.waves)
        spectrum = np.zeros((len(small), channels, height, width))
        spectrum[:, :, : self.waves, : self.waves] = self.gain * small
        return np.asarray(scipy.fft.idctn(spectrum, axes=(2, 3), norm="ortho"))


@dataclass(frozen=True, slots=True, eq=False)
class Modulated:
    """Another basis times a fixed pattern of signs: the coefficients say where the pattern keeps its sign.

    Networks for photographs are most easily fooled by fine stripes (Andriushchenko et al., "Square attack", ECCV 2020,
    section 4.2), which tiles alone cannot make.

    Parameters
    ----------
    basis : Basis
        Such as :class:`Tiles`.
    pattern : (c, h, w) array
        Such as :func:`stripes`.
    """

    basis: Basis
    pattern: Array

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.basis.size

    def __call__(self, coefficients: Array) -> Array:
        """Map (k, size) to (k, c, h, w)."""
        return self.basis(coefficients) * self.pattern


def stripes(shape: Shape, rng: np.random.Generator) -> Array:
    """Return random signs, one for each column and channel: vertical stripes, (c, h, w)."""
    channels, height, width = shape
    return np.repeat(rng.choice([-1.0, 1.0], (channels, 1, width)), height, axis=1)


def margin(scores: Array, label: int, *, targeted: bool = False) -> Array:
    """Return how far each row is from success, negative where the attack has succeeded (Carlini and Wagner, 2017).

    Parameters
    ----------
    scores : (k, classes)
        One row an image.
    label : int
        The true class, or the wanted one if ``targeted``.

    Returns
    -------
    (k,) array
        Score of the true class minus the best other one; the other way round if targeted.
    """
    others = np.delete(scores, label, axis=1).max(axis=1)
    return np.asarray(others - scores[:, label] if targeted else scores[:, label] - others)


def log_probability(scores: Array, label: int) -> Array:
    """Return the logarithm of the softmax of ``label`` for each row, (k,)."""
    top = scores.max(axis=1)
    return np.asarray(scores[:, label] - top - np.log(np.exp(scores - top[:, None]).sum(axis=1)))


class ImageAttack:
    r"""The objective of an attack on one image.

    With the perturbation :math:`p = B x` the adversarial image is

    * ``norm="linf"``: :math:`\mathrm{clip}(a + \epsilon\,\mathrm{clip}(p, -1, 1), 0, 1)`, best with
      :math:`x \in [-1, 1]^d`;
    * ``norm="l2"``: :math:`\mathrm{clip}(a + p, 0, 1)` with p scaled back to norm :math:`\epsilon` where longer;
    * ``norm="tanh"``: :math:`\frac12 (1 + \tanh(\mathrm{atanh}(2a - 1) + p))`, always a valid image, with
      ``distortion`` times its squared distance from a added to the loss (Carlini and Wagner, arXiv:1608.04644).

    Parameters
    ----------
    predict : callable ``predict(images) -> scores``
        The model; wrap it in :class:`Queries` to count and limit.
    image : (c, h, w) array
        The image a in 0..1.
    label : int
        Its class.
    target : int, optional
        The class to reach; without it any other class will do.
    epsilon : float, default 8/255
        Size of the perturbation.
    norm : {"linf", "l2", "tanh"}
        See above.
    loss : {"margin", "cross-entropy"}
        What is minimized; both are below zero margin exactly when the attack has succeeded only for "margin".
    basis : Basis, optional
        Pixels by default.
    confidence : float, default inf
        The margin loss is not pushed below minus this.
    distortion : float, default 0
        Weight of the squared distance, for "tanh".

    Attributes
    ----------
    found : (c, h, w) array or None
        The first adversarial image that was queried.
    found_at : int or None
        Objective values it took, counted here.
    n_queries : int
        Objective values so far.
    """

    def __init__(
        self,
        predict: Predict,
        image: Array,
        label: int,
        *,
        target: int | None = None,
        epsilon: float = 8 / 255,
        norm: Literal["linf", "l2", "tanh"] = "linf",
        loss: Loss = "margin",
        basis: Basis | None = None,
        confidence: float = np.inf,
        distortion: float = 0.0,
    ) -> None:
        if image.ndim != 3:
            raise ValueError(f"image must have shape (channels, height, width), got {image.shape}.")
        if norm not in ("linf", "l2", "tanh"):
            raise ValueError(f"norm must be 'linf', 'l2' or 'tanh', got {norm!r}.")
        if loss not in ("margin", "cross-entropy"):
            raise ValueError(f"loss must be 'margin' or 'cross-entropy', got {loss!r}.")
        self.predict, self.image, self.label, self.target = predict, np.asarray(image, dtype=float), label, target
        self.epsilon, self.norm, self.loss = epsilon, norm, loss
        self.basis: Basis = Pixels((image.shape[0], image.shape[1], image.shape[2])) if basis is None else basis
        self.confidence, self.distortion = confidence, distortion
        self.n_queries = 0
        self.found: Array | None = None
        self.found_at: int | None = None

    @property
    def size(self) -> int:
        """Number of variables."""
        return self.basis.size

    def adversarial(self, x: Array) -> Array:
        """Return the images for rows of coefficients, (k, d) or (d,) -> (k, c, h, w)."""
        shift = self.basis(np.atleast_2d(x))
        if self.norm == "linf":
            return np.asarray(np.clip(self.image + self.epsilon * np.clip(shift, -1, 1), 0, 1))
        if self.norm == "l2":
            length = np.sqrt(np.sum(shift**2, axis=(1, 2, 3), keepdims=True))
            shift = shift * np.minimum(1, self.epsilon / np.maximum(length, 1e-300))
            return np.asarray(np.clip(self.image + shift, 0, 1))
        return squashed(self.image, shift)

    def rows(self, points: Array) -> Array:
        """Return the losses of many points at once, (k, d) -> (k,): for ``vectorized=True``."""
        images = self.adversarial(points)
        scores = np.asarray(self.predict(images), dtype=float)
        wanted = self.label if self.target is None else self.target
        distance = margin(scores, wanted, targeted=self.target is not None)
        self._note(images, distance)
        if self.loss == "margin":
            losses = np.maximum(distance, -self.confidence)
        else:
            losses = log_probability(scores, wanted) * (1 if self.target is None else -1)
        if self.distortion:
            losses = losses + self.distortion * np.sum((images - self.image) ** 2, axis=(1, 2, 3))
        return np.asarray(losses)

    def __call__(self, x: Array) -> float:
        """Return the loss at one point: one query."""
        return float(self.rows(np.asarray(x)[None, :])[0])

    def success(self, x: Array) -> bool:
        """Say whether the image of ``x`` is misclassified (as the target); one query, counted by the model alone."""
        scores = np.asarray(self.predict(self.adversarial(x)))
        best = int(np.argmax(scores[0]))
        return best != self.label if self.target is None else best == self.target

    def stop(self, intermediate_result: Any) -> None:
        """Stop a run as soon as an adversarial image was queried: ``minimize(..., callback=attack.stop)``."""
        if self.found is not None:
            raise StopIteration

    def _note(self, images: Array, distance: Array) -> None:
        """Remember the first success; count what was asked."""
        hits = np.flatnonzero(distance < 0)
        if hits.size and self.found is None:
            self.found, self.found_at = images[hits[0]].copy(), self.n_queries + int(hits[0]) + 1
        self.n_queries += len(images)


def squashed(images: Array, shift: Array) -> Array:
    """Return (1 + tanh(atanh(2 a - 1) + p)) / 2, the change of variables that keeps images in 0..1."""
    inner = np.arctanh(np.clip(2 * images - 1, -1 + 1e-6, 1 - 1e-6))
    return np.asarray(0.5 + 0.5 * np.tanh(inner + shift))
