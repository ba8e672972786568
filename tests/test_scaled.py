"""x_scale with scipy's methods: the run in scaled variables, everything seen and returned in the user's."""

import numpy as np
import pytest
from scipy.optimize import BFGS, LinearConstraint, NonlinearConstraint
from scipy.sparse import csr_array
from scipy.sparse.linalg import aslinearoperator

import vamo_bbo as vb
from vamo_bbo.scipy_layer.methods import METHODS

SCALE = np.array([100.0, 0.01])
BEST = np.array([250.0, 0.035])
X0 = np.array([100.0, 0.02])


def fun(x):
    u = (x - BEST) / SCALE
    return float(u[0] ** 2 + 2 * u[1] ** 2 + 0.1 * u[0] ** 4)


def jac(x):
    u = (x - BEST) / SCALE
    return np.array([2 * u[0] + 0.4 * u[0] ** 3, 4 * u[1]]) / SCALE


def hess(x):
    u = (x - BEST) / SCALE
    return np.diag([2 + 1.2 * u[0] ** 2, 4.0]) / SCALE / SCALE[:, None]


NEEDS = {
    "Newton-CG": ("jac",),
    "dogleg": ("jac", "hess"),
    "trust-ncg": ("jac", "hess"),
    "trust-exact": ("jac", "hess"),
    "trust-krylov": ("jac", "hess"),
    "trust-constr": ("jac", "hess"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_minimum_and_calls_back_in_x(method):
    seen, shown = [], []

    def watched(x):
        seen.append(np.array(x))
        return fun(x)

    given = {name: {"jac": jac, "hess": hess}[name] for name in NEEDS.get(method, ())}
    result = vb.minimize(
        watched, X0, method=method, x_scale=SCALE, callback=lambda xk, *rest: shown.append(np.array(xk)), **given
    )
    np.testing.assert_allclose(seen[0], X0)
    np.testing.assert_allclose(result.x / SCALE, BEST / SCALE, atol=2e-3)
    assert np.abs(np.array(shown) / SCALE).max() < 20
    if isinstance(result.get("jac"), np.ndarray) and result.jac.size == 2:
        np.testing.assert_allclose(result.jac * SCALE, jac(result.x) * SCALE, atol=1e-3)


@pytest.mark.parametrize("kind", ["array", "sparse", "operator", "hessp", "2-point", "BFGS"])
def test_forms_of_hess(kind):
    forms = {
        "array": {"hess": hess},
        "sparse": {"hess": lambda x: csr_array(hess(x))},
        "operator": {"hess": lambda x: aslinearoperator(hess(x))},
        "hessp": {"hessp": lambda x, p: hess(x) @ p},
        "2-point": {"hess": "2-point"},
        "BFGS": {"hess": BFGS()},
    }
    result = vb.minimize(fun, X0, method="trust-constr", jac=jac, x_scale=SCALE, **forms[kind])
    np.testing.assert_allclose(result.x / SCALE, BEST / SCALE, atol=1e-4)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "Nelder-Mead", "Powell"])
def test_what_else_a_result_holds_is_in_x(method):
    result = vb.minimize(
        fun, X0, method=method, x_scale=SCALE, options={} if method == "L-BFGS-B" else {"return_all": True}
    )
    if "hess_inv" in result:
        inverse = result.hess_inv @ np.eye(2)
        np.testing.assert_allclose(inverse / SCALE / SCALE[:, None], [[0.5, 0], [0, 0.25]], atol=0.1)
    if "allvecs" in result:
        np.testing.assert_allclose(result.allvecs[0], X0)
    if "final_simplex" in result:
        np.testing.assert_allclose(result.final_simplex[0] / SCALE, np.tile(BEST / SCALE, (3, 1)), atol=1e-2)
    if "direc" in result:
        assert np.linalg.matrix_rank(result.direc / SCALE) == 2


ROW = np.array([1.0, 1e4])  # x0 + 1e4 x1 = 250 + 350 at the free minimum
FORMS = {
    "linear": LinearConstraint(ROW, -np.inf, 500.0),
    "sparse linear": LinearConstraint(csr_array(ROW[None, :]), -np.inf, 500.0),
    "nonlinear": NonlinearConstraint(lambda x: ROW @ x, -np.inf, 500.0),
    "nonlinear with derivatives": NonlinearConstraint(
        lambda x: ROW @ x, -np.inf, 500.0, jac=lambda x: ROW[None, :], hess=lambda x, v: np.zeros((2, 2))
    ),
    "dict": {"type": "ineq", "fun": lambda x: 500.0 - ROW @ x},
    "dict with jac": {"type": "ineq", "fun": lambda x, a: a - ROW @ x, "jac": lambda x, a: -ROW, "args": (500.0,)},
}


ALL_FORMS = ("linear", "nonlinear", "dict")
TAKES = {  # beyond these scipy itself raises or warns
    "SLSQP": (*ALL_FORMS, "dict with jac"),
    "COBYQA": (*ALL_FORMS, "dict with jac"),
    "COBYLA": (*ALL_FORMS, "dict with jac"),
    "trust-constr": (*ALL_FORMS, "sparse linear", "nonlinear with derivatives"),
}


@pytest.mark.parametrize(("method", "form"), [(m, form) for m, forms in TAKES.items() for form in forms])
def test_constraints(method, form):
    plain = vb.minimize(fun, X0, method="SLSQP", x_scale=SCALE, constraints=FORMS["dict"]).x
    result = vb.minimize(fun, X0, method=method, x_scale=SCALE, constraints=FORMS[form], bounds=[(0, 400), (0, 1)])
    np.testing.assert_allclose(result.x / SCALE, plain / SCALE, atol=2e-2)
    assert ROW @ result.x == pytest.approx(500.0, abs=1.0)


def test_the_same_solution_without_scale_is_not_found():
    """What x_scale is for: a first radius of 1 is nothing for one variable and far too much for the other."""
    plain = vb.minimize(fun, X0, method="COBYLA", constraints=FORMS["linear"], maxfev=20)
    scaled = vb.minimize(fun, X0, method="COBYLA", constraints=FORMS["linear"], x_scale=SCALE, maxfev=20)
    assert scaled.fun < 0.69  # 0.6853 at the minimum
    assert plain.fun > 0.8


def test_a_finite_sum():
    targets = np.array([[240.0, 0.03], [260.0, 0.04]])
    problem = vb.FiniteSum(
        lambda x, i: (((x - targets[i]) / SCALE) ** 2).sum(axis=1),
        2,
        lambda x, i: (2 * (x - targets[i]) / SCALE**2).mean(axis=0),
    )
    both = vb.FiniteSum(
        problem.losses, 2, value_and_grad=lambda x, i: (problem.losses(x, i), problem.grad(x, i)), check_grad=False
    )
    for objective, method in ((problem, "L-BFGS-B"), (both, "BFGS"), (problem, "Nelder-Mead")):
        result = vb.minimize(objective, X0, method=method, x_scale=SCALE)
        np.testing.assert_allclose(result.x / SCALE, BEST / SCALE, atol=1e-3)


def test_points_of_failures_are_in_x():
    def fails(x):
        if x[0] > 200:
            raise RuntimeError("boom")
        return fun(x)

    result = vb.minimize(fails, X0, method="Nelder-Mead", x_scale=SCALE)
    assert result.n_failed
    assert all(record.x[0] > 200 for record in result.failures)


def test_errors():
    with pytest.raises(vb.OptionError, match="x_scale"):
        vb.minimize(fun, X0, method="BFGS", x_scale=[1.0, -1.0])
