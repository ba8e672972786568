"""A drop-in for scipy: change the import, keep the call; then ask for more.

Run it with ``python examples/01_scipy_drop_in.py``.
"""

import numpy as np

from vamo_bbo import minimize  # was: from scipy.optimize import minimize


def rosenbrock(x):
    """Return scipy's favorite test function, with minimum 0 at (1, ..., 1)."""
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def main():
    """Minimize it in three ways."""
    x0 = np.array([-1.2, 1.0, -0.5, 0.8])

    result = minimize(rosenbrock, x0, method="Nelder-Mead", options={"maxiter": 2000})
    print(f"as with scipy:      f = {result.fun:.2e} after {result.nfev} evaluations: {result.message}")

    # Exact budgets and a target for every method, scipy's included; the best point seen is never lost.
    result = minimize(rosenbrock, x0, method="L-BFGS-B", maxfev=100)
    print(f"100 evaluations:    f = {result.fun:.2e} after {result.nfev}")
    result = minimize(rosenbrock, x0, method="L-BFGS-B", f_target=0.1)
    print(f"until f <= 0.1:     f = {result.fun:.2e} after {result.nfev}")

    # A function that fails in part of its domain.
    def fragile(x):
        if x[0] > 1.05:
            raise ArithmeticError("the solver inside did not converge")
        return rosenbrock(x)

    result = minimize(fragile, x0, method="Nelder-Mead", maxfev=2000)
    print(f"survives failures:  f = {result.fun:.2e}, {result.n_failed} of {result.nfev} evaluations failed")
    assert result.fun < 1e-6


if __name__ == "__main__":
    main()
