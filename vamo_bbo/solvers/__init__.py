"""The named algorithms: each file is a composition of parts with its mathematics, source and cost."""

from __future__ import annotations

from collections.abc import Callable

from vamo_bbo.core.solver import Solver
from vamo_bbo.solvers.adam import adam
from vamo_bbo.solvers.bayes import bayes
from vamo_bbo.solvers.cma import cma
from vamo_bbo.solvers.fd_bfgs import fd_bfgs
from vamo_bbo.solvers.interpolation import interpolation
from vamo_bbo.solvers.quadratic import quadratic
from vamo_bbo.solvers.residual import residual
from vamo_bbo.solvers.saga import asgd, saga, sarah, storm
from vamo_bbo.solvers.sgd import sgd
from vamo_bbo.solvers.spsa import spsa
from vamo_bbo.solvers.svrg import svrg
from vamo_bbo.solvers.vamo import vamo, vamo_paper
from vamo_bbo.solvers.zo_adamm import zo_adamm
from vamo_bbo.solvers.zo_nesterov import zo_nesterov
from vamo_bbo.solvers.zo_sgd import zo_sgd
from vamo_bbo.solvers.zo_sign_sgd import zo_sign_sgd
from vamo_bbo.solvers.zo_svrg import zo_svrg

__all__ = [
    "METHODS",
    "adam",
    "asgd",
    "bayes",
    "cma",
    "fd_bfgs",
    "interpolation",
    "quadratic",
    "residual",
    "saga",
    "sarah",
    "sgd",
    "spsa",
    "storm",
    "svrg",
    "vamo",
    "vamo_paper",
    "zo_adamm",
    "zo_nesterov",
    "zo_sgd",
    "zo_sign_sgd",
    "zo_svrg",
]

METHODS: dict[str, Callable[..., Solver]] = {
    "vamo": vamo,
    "vamo-paper": vamo_paper,
    "svrg": svrg,
    "saga": saga,
    "sarah": sarah,
    "storm": storm,
    "asgd": asgd,
    "sgd": sgd,
    "adam": adam,
    "zo-svrg": zo_svrg,
    "zo-sgd": zo_sgd,
    "zo-sign-sgd": zo_sign_sgd,
    "zo-adamm": zo_adamm,
    "zo-nesterov": zo_nesterov,
    "spsa": spsa,
    "residual": residual,
    "cma": cma,
    "fd-bfgs": fd_bfgs,
    "quadratic": quadratic,
    "bayes": bayes,
    "interpolation": interpolation,
}
"""Factory of every method by the name that ``minimize(method=...)`` takes."""
