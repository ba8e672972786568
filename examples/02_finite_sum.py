"""Data: logistic regression as a finite sum, with and without gradients, at equal cost.

Run it with ``python examples/02_finite_sum.py``.
"""

import numpy as np

import vamo_bbo as vb

N, D = 2000, 20


def make_data(seed=0):
    """Return features and labels of a noisy linear classification problem."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, D)) * np.linspace(0.5, 2.0, D)
    labels = np.sign(features @ rng.normal(size=D) + rng.normal(size=N))
    return features, labels


def make_objective(features, labels):
    """Return the objective: two functions of a point and of the indices of the samples that are wanted."""

    def losses(x, idx):
        return np.logaddexp(0.0, -labels[idx] * (features[idx] @ x)) + 0.5e-2 * (x @ x)

    def grad(x, idx):
        margin = labels[idx] * (features[idx] @ x)
        return -(labels[idx] / (1.0 + np.exp(margin))) @ features[idx] / len(idx) + 1e-2 * x

    return vb.FiniteSum(losses, N, grad=grad)


def main():
    """Compare methods after the price of 30 gradients of the whole data set, a gradient counting three values."""
    objective = make_objective(*make_data())
    best = vb.minimize(objective, np.zeros(D), method="L-BFGS-B", tol=1e-12).fun
    budget = 30 * N

    def run(name, method, **limits):
        result = vb.minimize(objective, np.zeros(D), method=method, rng=1, **limits)
        cost = (result.nfev_samples + 3 * result.njev_samples) / (3 * N)
        print(f"{name:8} f - f* = {result.fun - best:.1e}   cost {cost:4.1f} gradient passes")
        return result.fun - best

    # With one step size, SGD stops at its noise floor. VAMO's is lower: a snapshot along q directions takes up to q/d
    # of the noise away for n (q + 1) values. SVRG's is zero, for full gradients: take it where these are affordable.
    run("sgd", vb.sgd(0.3), maxjev=budget)
    gap = run("vamo", vb.vamo(0.3, n_directions=5), maxfev=2 * budget, maxjev=budget / 3)
    run("svrg", vb.svrg(0.3), maxjev=budget)
    # Without gradients one value is worth about 1/d of one: it takes many more.
    run("zo-svrg", vb.zo_svrg(0.01, share_directions=True), maxfev=3 * budget)
    assert gap < 1e-3


if __name__ == "__main__":
    main()
