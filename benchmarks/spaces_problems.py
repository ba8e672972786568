"""Search spaces as users of Optuna and nevergrad have them: models under cross validation, simulators, codes.

Every problem is a :class:`~vamo_bbo.Space` and a function of its parameters, without noise; some combinations raise or
return NaN. Ours, made for this benchmark: ``DEVELOPMENT`` is what rules are developed on, ``HELD_OUT`` what they are
judged by.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import vamo_bbo as vb
from vamo_bbo import Choice, Integer, Real

__all__ = ["DEVELOPMENT", "HELD_OUT", "Problem", "problem"]


class Problem(NamedTuple):
    """A space and the function to be minimized over it."""

    space: vb.Space
    fun: Callable[[dict[str, Any]], float]


@functools.cache
def _data(name: str, n: int) -> tuple[Any, Any]:
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(y))[:n]
    return x[order], y[order]


def _cv(model: Any, data: tuple[Any, Any], scoring: str, folds: int = 3) -> float:
    from sklearn.model_selection import cross_val_score

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return -float(np.mean(cross_val_score(model, *data, cv=folds, scoring=scoring, error_score="raise")))


def _scaled(kind: str, model: Any) -> Any:
    from sklearn import pipeline, preprocessing

    if kind == "none":
        return model
    scaler = {"standard": "StandardScaler", "minmax": "MinMaxScaler", "quantile": "QuantileTransformer"}[kind]
    extra = {"n_quantiles": 50} if kind == "quantile" else {}
    return pipeline.make_pipeline(getattr(preprocessing, scaler)(**extra), model)


def _svc(p: dict[str, Any]) -> float:
    from sklearn.svm import SVC

    model = SVC(C=p["C"], gamma=p["gamma"], kernel=p["kernel"], degree=p["degree"], max_iter=2000)
    return _cv(_scaled(p["scale"], model), _data("digits", 240), "accuracy")


def _svc_reals(p: dict[str, Any]) -> float:
    from sklearn.svm import SVC

    return _cv(_scaled("standard", SVC(C=p["C"], gamma=p["gamma"])), _data("breast_cancer", 240), "accuracy")


def _svr(p: dict[str, Any]) -> float:
    from sklearn.svm import SVR

    model = SVR(C=p["C"], gamma=p["gamma"], epsilon=p["epsilon"], max_iter=5000)
    return _cv(_scaled("standard", model), _data("diabetes", 250), "neg_root_mean_squared_error")


def _tree(p: dict[str, Any]) -> float:
    from sklearn.tree import DecisionTreeRegressor

    model = DecisionTreeRegressor(
        max_depth=p["max_depth"],
        min_samples_leaf=p["leaf"],
        min_samples_split=p["split"],
        max_features=p["features"],
        criterion=p["criterion"],
        ccp_alpha=p["alpha"],
        random_state=0,
    )
    return _cv(model, _data("diabetes", 442), "neg_root_mean_squared_error")


def _knn(p: dict[str, Any]) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(n_neighbors=p["k"], weights=p["weights"], p=p["p"])
    return _cv(_scaled(p["scale"], model), _data("wine", 178), "neg_log_loss")


def _sgd(p: dict[str, Any]) -> float:
    from sklearn.linear_model import SGDClassifier

    if p["schedule"] == "constant" and p["eta0"] > 1.0:
        raise FloatingPointError("diverged")
    model = SGDClassifier(
        loss=p["loss"],
        penalty=p["penalty"],
        alpha=p["alpha"],
        l1_ratio=p["ratio"],
        learning_rate=p["schedule"],
        eta0=p["eta0"],
        max_iter=p["epochs"],
        tol=None,
        random_state=0,
    )
    return _cv(_scaled("standard", model), _data("breast_cancer", 200), "accuracy")


def _polynomial(p: dict[str, Any]) -> float:
    from sklearn import linear_model, pipeline, preprocessing

    if p["degree"] == 3 and not p["interaction"]:
        raise MemoryError("too many features")
    model: Any = linear_model.Ridge(alpha=p["alpha"])
    if p["model"] == "lasso":
        model = linear_model.Lasso(alpha=p["alpha"], max_iter=100)
    elif p["model"] == "elastic":
        model = linear_model.ElasticNet(alpha=p["alpha"], l1_ratio=p["ratio"], max_iter=100)
    steps = [
        preprocessing.StandardScaler(),
        preprocessing.PolynomialFeatures(p["degree"], interaction_only=p["interaction"]),
        model,
    ]
    return _cv(pipeline.make_pipeline(*steps), _data("diabetes", 250), "neg_root_mean_squared_error")


def _network(p: dict[str, Any]) -> float:
    """Return the loss of a small network trained by momentum, NaN where it diverges."""
    x, y = _data("wine", 178)
    x = (x - x.mean(0)) / x.std(0)
    target = np.eye(3)[y]
    rng = np.random.default_rng(3)
    shape = [x.shape[1], *[p["width"]] * p["layers"], 3]
    gain = {"relu": 2.0, "tanh": 1.0, "sine": 1.0}[p["activation"]]
    ws = [rng.normal(size=s) * p["init"] * math.sqrt(gain / s[0]) for s in itertools.pairwise(shape)]
    act = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "sine": np.sin}[p["activation"]]
    slope = {"relu": lambda z: z > 0, "tanh": lambda z: 1 - np.tanh(z) ** 2, "sine": np.cos}[p["activation"]]
    velocity = [np.zeros_like(w) for w in ws]
    with np.errstate(all="ignore"):
        for step in range(60):
            rows = slice(None) if p["batch"] == "all" else (np.arange(32) + 32 * step) % 118
            inputs, zs = [x[:118][rows]], []
            for w in ws:
                zs.append(inputs[-1] @ w)
                inputs.append(act(zs[-1]))
            e = np.exp(zs[-1] - zs[-1].max(1, keepdims=True))
            back = (e / e.sum(1, keepdims=True) - target[:118][rows]) / len(inputs[0])
            for k in reversed(range(len(ws))):
                grad = inputs[k].T @ back + p["decay"] * ws[k]
                if k:
                    back = (back @ ws[k].T) * slope(zs[k - 1])
                velocity[k] = p["momentum"] * velocity[k] - p["rate"] * grad
                ws[k] = ws[k] + velocity[k]
        h = x[118:]
        for w in ws[:-1]:
            h = act(h @ w)
        z = h @ ws[-1]
        z = z - z.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(60), y[118:]]))


@functools.cache
def _demand(kind: int) -> Any:
    rng = np.random.default_rng(kind)
    return rng.poisson([8.0, 3.0, 15.0], size=(200, 3)) * (rng.random((200, 3)) < 0.8)


def _inventory(p: dict[str, Any]) -> float:
    """Return the cost per day of reordering at s, up to s + q, three goods of different lead times."""
    demand, cost = _demand(1), 0.0
    for item, (lead, order, hold, short) in enumerate([(2, 20.0, 0.2, 4.0), (5, 60.0, 0.5, 9.0), (1, 5.0, 0.1, 2.0)]):
        s, q = p[f"s{item}"], p[f"q{item}"]
        stock, due = s + q, [0] * 6
        for day in range(200):
            stock += due.pop(0)
            due.append(0)
            stock -= demand[day, item]
            cost += hold * max(stock, 0) + short * max(-stock, 0)
            if stock + sum(due) <= s:
                due[lead] += s + q - stock - sum(due)
                cost += order
    return cost / 200


def _staffing(p: dict[str, Any]) -> float:
    """Return the price of a day of a call centre: staff per shift, waiting by Erlang's formula per hour."""
    shifts = np.array([p[f"shift{k}"] for k in range(5)], float)
    covers = np.array([[k * 2 <= h < k * 2 + 5 for k in range(5)] for h in range(13)], float)
    hour = np.arange(13.0)
    load = 4.0 + 10.0 * np.exp(-0.5 * ((hour - 4.0) / 2.0) ** 2) + 6.0 * np.exp(-0.5 * (hour - 9.0) ** 2)
    staff, total = covers @ shifts, 25.0 * shifts.sum()
    for n, a in zip(staff, load, strict=True):
        if n <= a:
            total += 200.0 * (a - n + 1.0)
            continue
        block = 1.0
        for k in range(1, int(n) + 1):
            block = a * block / (k + a * block)
        wait = block / (1.0 - a / n * (1.0 - block))
        total += 300.0 * a * wait / (n - a)
    return float(total)


@functools.cache
def _interactions(seed: int, n: int, levels: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, levels)), rng.normal(size=(n, n, levels, levels)) * (rng.random((n, n, 1, 1)) < 0.25)


def _flags(p: dict[str, Any]) -> float:
    """Return a run time that depends on eight compiler switches and pairs of them."""
    alone, pairs = _interactions(5, 8, 4)
    k = [int(p[f"flag{i}"][1:]) for i in range(8)]
    if k[0] == 2 and k[3] == 1:
        raise RuntimeError("does not compile")
    value = sum(alone[i, k[i]] for i in range(8)) + sum(pairs[i, j, k[i], k[j]] for i in range(8) for j in range(i))
    return float(math.exp(0.15 * value))


def _vessel(p: dict[str, Any]) -> float:
    """Return the cost of a pressure vessel of plates of 1/16 inch (Sandgren 1990), with a price on violations."""
    ts, th, r, length = p["shell"] / 16, p["head"] / 16, p["radius"], p["length"]
    cost = 0.6224 * ts * r * length + 1.7781 * th * r**2 + 3.1661 * ts**2 * length + 19.84 * ts**2 * r
    volume = math.pi * r**2 * length + 4 / 3 * math.pi * r**3
    gaps = max(0.0193 * r / ts - 1, 0), max(0.00954 * r / th - 1, 0), max(1_296_000 / volume - 1, 0)
    return cost * (1.0 + 3.0 * sum(gaps)) / 1000


def _kinetics(p: dict[str, Any]) -> float:
    """Return the misfit of a reaction A -> B <-> C whose rates are known to six decades."""
    t = np.linspace(0.0, 30.0, 25)

    def curve(k1: float, k2: float, k3: float) -> Any:
        rates = np.array([[-k1, 0, 0], [k1, -k2, k3], [0, k2, -k3]])
        values, vectors = np.linalg.eig(rates)
        modes = np.linalg.solve(vectors, np.array([1.0, 0, 0]))
        return np.real((vectors[1:] * modes) @ np.exp(np.outer(values, t)))

    true = curve(0.4, 0.09, 0.013)
    return float(np.mean((p["gain"] * curve(p["k1"], p["k2"], p["k3"]) - true) ** 2) + 1e-4)


def _gears(p: dict[str, Any]) -> float:
    """Return the logarithmic error of a train of six gears, and its weight."""
    g = [p[f"g{k}"] for k in range(6)]
    ratio = g[0] * g[1] * g[2] / (g[3] * g[4] * g[5])
    return abs(math.log(ratio / 0.0721)) + 1e-5 * sum(n * n for n in g)


def _filter(p: dict[str, Any]) -> float:
    """Return how far a digital filter of moving stages is from a wanted response."""
    w = np.linspace(0.01, math.pi, 60)
    wanted = 1.0 / (1.0 + (w / 0.9) ** 6)
    response = np.ones_like(w)
    for k in range(3):
        n = p[f"n{k}"]
        if p[f"kind{k}"] == "mean":
            response = response * np.abs(np.sin(n * w / 2) / (n * np.sin(w / 2)))
        elif p[f"kind{k}"] == "pole":
            response = response * (1 - p[f"a{k}"]) / np.abs(1 - p[f"a{k}"] * np.exp(-1j * w))
        elif p[f"kind{k}"] == "notch":
            response = response * np.abs(1 - 2 * p[f"a{k}"] * np.cos(1.9) * np.exp(-1j * w) + np.exp(-2j * w)) / 2
    return float(np.sqrt(np.mean((p["gain"] * response - wanted) ** 2)))


def _antenna(p: dict[str, Any]) -> float:
    """Return the highest side lobe of eight elements with phase shifters of 16 steps, in decibels."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, 181)
    phases = np.array([p[f"phase{k}"] for k in range(8)]) * (2 * math.pi / 16)
    field = np.exp(1j * (math.pi * p["spacing"] * np.outer(np.sin(angle), np.arange(8)) + phases)).sum(1)
    power = np.abs(field) ** 2
    k = int(np.argmin(np.abs(angle - 0.5)))
    outside = np.abs(np.sin(angle) - np.sin(0.5)) > 0.35
    return float(10 * np.log10((power[outside].max() + 1e-9) / (power[k] + 1e-9)))


def _pipes(p: dict[str, Any]) -> float:
    """Return the price of a network of pipes of catalogue diameters with a pump, pressure being short at a price."""
    diameters = np.array([p[f"d{k}"] for k in range(6)], float) / 100
    flow = np.array([0.12, 0.07, 0.05, 0.03, 0.04, 0.02])
    lengths = np.array([300.0, 200, 250, 150, 400, 200])
    loss = 10.67 * lengths * flow**1.852 / (140**1.852 * diameters**4.87)
    paths = [(0,), (0, 1), (0, 2), (0, 1, 3), (0, 2, 4), (0, 2, 4, 5)]
    head = {"small": 20.0, "medium": 32.0, "large": 45.0}[p["pump"]] * p["speed"] ** 2
    short = sum(max(0.0, 15.0 - (head + 4.0 * (k % 3) - sum(loss[j] for j in path))) for k, path in enumerate(paths))
    price = 0.9 * np.sum(lengths * diameters**1.4) + {"small": 60.0, "medium": 90.0, "large": 140.0}[p["pump"]]
    return float(price + 90.0 * p["speed"] ** 3 + 20.0 * short)


def _features(p: dict[str, Any]) -> float:
    """Return the error of ridge regression on chosen columns: twelve switches and a strength."""
    x, y = _data("diabetes", 300)
    x = np.hstack([x, x[:, :2] * x[:, 2:4]])
    used = [k for k in range(12) if p[f"use{k}"]]
    if not used:
        return math.nan
    x = (x - x.mean(0)) / x.std(0)
    x, mean = x[:, used], y[:150].mean()
    a = x[:150].T @ x[:150] + p["alpha"] * np.eye(len(used))
    w = np.linalg.solve(a, x[:150].T @ (y[:150] - mean))
    return float(np.sqrt(np.mean((x[150:] @ w + mean - y[150:]) ** 2))) + 0.3 * len(used)


_STRENGTH = Real(1e-3, 1e3, log=True)
DEVELOPMENT: dict[str, Problem] = {
    "svc-mixed": Problem(
        vb.Space(
            C=_STRENGTH,
            gamma=Real(1e-6, 1.0, log=True),
            kernel=Choice(["rbf", "poly", "sigmoid"]),
            degree=Integer(2, 5),
            scale=Choice(["none", "standard", "minmax"]),
        ),
        _svc,
    ),
    "svc-reals": Problem(vb.Space(C=_STRENGTH, gamma=Real(1e-6, 1.0, log=True)), _svc_reals),
    "tree": Problem(
        vb.Space(
            max_depth=Integer(1, 20),
            leaf=Integer(1, 50),
            split=Integer(2, 50),
            features=Choice([None, "sqrt", "log2"]),
            criterion=Choice(["squared_error", "friedman_mse", "poisson"]),
            alpha=Real(1e-3, 1e3, log=True),
        ),
        _tree,
    ),
    "polynomial": Problem(
        vb.Space(
            alpha=Real(1e-4, 1e4, log=True),
            ratio=Real(0, 1),
            degree=Integer(1, 3),
            interaction=Choice([False, True]),
            model=Choice(["ridge", "lasso", "elastic"]),
        ),
        _polynomial,
    ),
    "network": Problem(
        vb.Space(
            rate=Real(1e-4, 10.0, log=True),
            momentum=Real(0.0, 0.99),
            decay=Real(1e-6, 1.0, log=True),
            init=Real(0.01, 10.0, log=True),
            width=Integer(2, 32),
            layers=Integer(1, 4),
            activation=Choice(["relu", "tanh", "sine"]),
            batch=Choice(["all", "32"]),
        ),
        _network,
    ),
    "inventory": Problem(
        vb.Space({**{f"s{k}": Integer(0, 100) for k in range(3)}, **{f"q{k}": Integer(1, 200) for k in range(3)}}),
        _inventory,
    ),
    "flags": Problem(vb.Space({f"flag{k}": Choice(["O0", "O1", "O2", "O3"]) for k in range(8)}), _flags),
    "vessel": Problem(
        vb.Space(shell=Integer(1, 99), head=Integer(1, 99), radius=Real(10, 200), length=Real(10, 200)), _vessel
    ),
    "filter": Problem(
        vb.Space(
            {
                **{f"n{k}": Integer(1, 12) for k in range(3)},
                **{f"kind{k}": Choice(["off", "mean", "pole", "notch"]) for k in range(3)},
                **{f"a{k}": Real(0, 0.99) for k in range(3)},
                "gain": Real(0.1, 10, log=True),
            }
        ),
        _filter,
    ),
    "kinetics": Problem(
        vb.Space(**{k: Real(1e-5, 10.0, log=True) for k in ("k1", "k2", "k3")}, gain=Real(0.1, 10, log=True)),
        _kinetics,
    ),
}
HELD_OUT: dict[str, Problem] = {
    "svr": Problem(vb.Space(C=_STRENGTH, gamma=Real(1e-6, 1.0, log=True), epsilon=Real(1e-4, 100.0, log=True)), _svr),
    "knn": Problem(
        vb.Space(
            k=Integer(1, 60),
            weights=Choice(["uniform", "distance"]),
            p=Real(1.0, 5.0),
            scale=Choice(["none", "standard", "minmax", "quantile"]),
        ),
        _knn,
    ),
    "sgd": Problem(
        vb.Space(
            loss=Choice(["hinge", "log_loss", "modified_huber", "squared_hinge"]),
            penalty=Choice(["l1", "l2", "elasticnet"]),
            alpha=Real(1e-6, 1.0, log=True),
            ratio=Real(0, 1),
            schedule=Choice(["constant", "optimal", "invscaling", "adaptive"]),
            eta0=Real(1e-4, 10.0, log=True),
            epochs=Integer(1, 15),
        ),
        _sgd,
    ),
    "staffing": Problem(vb.Space({f"shift{k}": Integer(0, 25) for k in range(5)}), _staffing),
    "gears": Problem(vb.Space({f"g{k}": Integer(12, 60) for k in range(6)}), _gears),
    "antenna": Problem(
        vb.Space({**{f"phase{k}": Integer(0, 15) for k in range(8)}, "spacing": Real(0.3, 1.0)}), _antenna
    ),
    "pipes": Problem(
        vb.Space(
            {
                **{f"d{k}": Choice([10, 15, 20, 25, 30, 40]) for k in range(6)},
                "pump": Choice(["small", "medium", "large"]),
                "speed": Real(0.5, 1.5),
            }
        ),
        _pipes,
    ),
    "features": Problem(
        vb.Space({**{f"use{k}": Choice([False, True]) for k in range(12)}, "alpha": _STRENGTH}), _features
    ),
}


def problem(name: str) -> Problem:
    """Return a problem of one of the two sets."""
    return (DEVELOPMENT | HELD_OUT)[name]
