"""Minimize any Python objective: mixed first- and zeroth-order optimization behind scipy's ``minimize`` call.

Examples
--------
>>> import vamo_bbo as vb
>>> result = vb.minimize(lambda x: (x[0] - 1.0) ** 2 + (x[1] + 2.0) ** 2, [0.0, 0.0], method="L-BFGS-B")
>>> result.x.round(3).tolist()
[1.0, -2.0]
"""

from vamo_bbo._errors import (
    BackendUnavailable,
    CapabilityError,
    EvaluationError,
    OptionError,
    StateError,
    VamoError,
)
from vamo_bbo.command import Command
from vamo_bbo.kronecker import Kronecker
from vamo_bbo.minimize import minimize
from vamo_bbo.optimizer import Optimizer, Trial
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.executors import Processes
from vamo_bbo.run.load import JournalData, load
from vamo_bbo.scipy_layer.plugin import as_scipy_method
from vamo_bbo.solvers import (
    adam,
    asgd,
    bayes,
    cma,
    fd_bfgs,
    interpolation,
    quadratic,
    residual,
    saga,
    sarah,
    sgd,
    spsa,
    storm,
    svrg,
    vamo,
    vamo_paper,
    zo_adamm,
    zo_nesterov,
    zo_sgd,
    zo_sign_sgd,
    zo_svrg,
)
from vamo_bbo.space import Choice, Integer, Real, Space

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "CapabilityError",
    "Choice",
    "Command",
    "EvaluationError",
    "FiniteSum",
    "Integer",
    "JournalData",
    "Kronecker",
    "Optimizer",
    "OptionError",
    "Processes",
    "Real",
    "Space",
    "StateError",
    "Trial",
    "VamoError",
    "adam",
    "as_scipy_method",
    "asgd",
    "bayes",
    "cma",
    "fd_bfgs",
    "interpolation",
    "load",
    "minimize",
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
