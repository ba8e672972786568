r"""Small neural networks: one hidden layer of tanh units, softmax cross-entropy, weight decay, gradient by hand.

.. math:: f_i(x) = \log \sum_k e^{z_k} - z_{y_i} + \frac\lambda2 \|x\|^2, \qquad
          z = V \tanh(W a_i + b) + c

The variables are W, b, V, c in this order, each by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from problems import datasets
from problems.problem import Array, Built, Problem, Reference
from vamo_bbo.problem import FiniteSum

DECAY = 1e-3
CHUNK = 4096
"""Samples of one call in a pass over all of them: three times as fast on MNIST as one call with a copy of all rows."""


class Network:
    """A network with one hidden layer, its data, and the loss of every sample.

    Parameters
    ----------
    inputs : (n, p) array
        Inputs; float64 or float32.
    labels : (n,) int
        Classes 0 .. k-1.
    hidden : int
        Units of the hidden layer.
    decay : float
        Weight lambda of the squared norm.
    """

    def __init__(self, inputs: Array, labels: Array, hidden: int, decay: float = DECAY) -> None:
        self.inputs, self.labels, self.hidden, self.decay = inputs, labels, hidden, decay
        self.n_classes = int(labels.max()) + 1
        width = inputs.shape[1]
        self.shapes = ((hidden, width), (hidden,), (self.n_classes, hidden), (self.n_classes,))
        self.dimension = sum(int(np.prod(shape)) for shape in self.shapes)

    def unpack(self, x: Array) -> list[Array]:
        """Return views W, b, V, c of the variables."""
        parts, at = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            parts.append(np.asarray(x)[at : at + size].reshape(shape))
            at += size
        return parts

    def start(self, seed: int = 0) -> Array:
        """Return weights drawn from N(0, 1/fan-in) and zero biases, (d,) float64."""
        rng = np.random.default_rng(seed)
        drawn = [rng.standard_normal(s) / np.sqrt(s[1]) if len(s) == 2 else np.zeros(s) for s in self.shapes]
        return np.concatenate([part.ravel() for part in drawn])

    def scores(self, x: Array, inputs: Array) -> Array:
        """Return the class scores z, (n, k)."""
        first, bias, second, offset = self.unpack(x)
        return np.asarray(np.tanh(inputs @ first.T + bias) @ second.T + offset)

    def input_gradient(self, x: Array, inputs: Array, outer: Array) -> Array:
        """Return the gradient of ``sum(outer * scores)`` in the inputs, (n, p), by the chain rule."""
        first, bias, second, _ = self.unpack(x)
        active = np.tanh(inputs @ first.T + bias)
        return np.asarray((outer @ second * (1 - active**2)) @ first)

    def losses(self, x: Array, idx: Array) -> Array:
        """Return the values of the samples ``idx``."""
        scores = self.scores(x, self.inputs[idx])
        own = scores[np.arange(len(idx)), self.labels[idx]]
        return _log_sum_exp(scores) - own + self.decay / 2 * float(x @ x)

    def value_and_grad(self, x: Array, idx: Array) -> tuple[Array, Array]:
        """Return the values and the mean gradient, (d,), by the chain rule."""
        first, bias, second, offset = self.unpack(x)
        inputs, labels, rows = self.inputs[idx], self.labels[idx], np.arange(len(idx))
        active = np.tanh(inputs @ first.T + bias)
        scores = active @ second.T + offset
        level = _log_sum_exp(scores)
        values = level - scores[rows, labels] + self.decay / 2 * float(x @ x)
        outer = np.exp(scores - level[:, None])
        outer[rows, labels] -= 1
        outer /= len(idx)
        inner = (outer @ second) * (1 - active**2)
        parts = (inner.T @ inputs, inner.sum(axis=0), outer.T @ active, outer.sum(axis=0))
        return values, np.concatenate([part.ravel() for part in parts]) + self.decay * x

    def gradient(self, x: Array, idx: Array) -> Array:
        """Return the mean gradient, (d,)."""
        return self.value_and_grad(x, idx)[1]


def _log_sum_exp(scores: Array) -> Array:
    top = scores.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(scores - top).sum(axis=1)))


def build(load: Callable[[], tuple[Array, Array]], hidden: int) -> Built:
    """Return the training problem on the data of ``load``."""
    network = Network(*load(), hidden)
    objective = FiniteSum(
        network.losses,
        len(network.labels),
        grad=network.gradient,
        value_and_grad=network.value_and_grad,
        chunk_size=CHUNK,
    )
    return Built(objective, network.start())


def _breast_cancer() -> tuple[Array, Array]:
    rows, signs = datasets.breast_cancer()
    return rows[:, :-1], (signs > 0).astype(np.int64)


def _mnist() -> tuple[Array, Array]:
    images, labels = datasets.mnist()
    return images / 255.0, labels


def _keel(name: str, positive: tuple[str, ...]) -> tuple[Array, Array]:
    rows, signs = datasets.keel(name, positive)
    dense = rows if isinstance(rows, np.ndarray) else rows.toarray()  # a few hundred columns at most
    return dense[:, :-1], (signs > 0).astype(np.int64)


OPTIMA = {
    "german": 0.1507794881,
    "spambase": 0.1171205758,
    "breast-cancer": 0.0245416054,
    "digits": 0.1353405145,
    "mnist": 0.1883301743,
}


def problems() -> Iterable[Problem]:
    """Return networks on three tables, digits and MNIST."""
    found = "best of L-BFGS-B from x0 and 8 random starts: `python -m problems reference NAME`"
    uci = "BSD-3-Clause (scikit-learn); UCI data, CC BY 4.0"
    sklearn = ("scikit-learn",)
    yield Problem(
        "network-breast-cancer",
        266,
        "finite_sum",
        "Network 30-8-2 on Wisconsin breast cancer, 569 rows.",
        partial(build, _breast_cancer, 8),
        "0.2 ms a full value and gradient",
        uci,
        Reference(OPTIMA["breast-cancer"], found, is_optimum=False),
        sklearn,
    )
    yield Problem(
        "network-digits",
        1210,
        "finite_sum",
        "Network 64-16-10 on scikit-learn's digits, 1,797 images.",
        partial(build, datasets.digit_images, 16),
        "1.5 ms a full value and gradient",
        uci,
        Reference(OPTIMA["digits"], found, is_optimum=False),
        sklearn,
    )
    fewer = (
        "best of L-BFGS-B from 3 starts: `python -m problems reference network-spambase --starts 3 --evaluations 1500`"
    )
    for name, source, width, title in (
        ("german", found, 61, "credit risk, 1,000 rows"),
        ("spambase", fewer, 57, "spam or not, 4,597 mails"),
    ):
        yield Problem(
            f"network-{name}",
            8 * width + 26,
            "finite_sum",
            f"Network {width}-8-2 on {title}.",
            partial(build, partial(_keel, name, ("1",)), 8),
            "1 ms a full value and gradient",
            datasets.KEEL.licence,
            Reference(OPTIMA[name], source, is_optimum=False),
            ("download",),
        )
    yield Problem(
        "network-mnist",
        25450,
        "finite_sum",
        "Network 784-32-10 on MNIST, 60,000 images.",
        partial(build, _mnist, 32),
        "250 ms a full value and gradient",
        datasets.MNIST.licence,
        Reference(
            OPTIMA["mnist"],
            "L-BFGS-B from x0, 1,000 values with gradients, about five minutes:"
            " `python -m problems reference network-mnist --starts 1 --evaluations 1000`",
            is_optimum=False,
        ),
        ("download",),
    )
