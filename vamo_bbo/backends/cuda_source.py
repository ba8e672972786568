"""The text of the CUDA kernels: constants, ``philox.cuh``, and ``kernels.cuh`` once for each float type."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vamo_bbo.backends.philox import COS_COEFFICIENTS, LOG_COEFFICIENTS, SIN_COEFFICIENTS, TWO_PI_FRACTION

HERE = Path(__file__).parent

KERNELS = ("perturb", "perturb_pair", "perturb_rows", "fill", "accumulate", "project_tiles", "dot_tiles")
"""Kernels there are for each float type, as ``NAME_f32`` and ``NAME_f64``; ``sum_tiles`` has no type."""


def _constants() -> str:
    values = {"V_SCALE": 2.0**-32, "V_OFFSET": 2.0**-33, "ANGLE": TWO_PI_FRACTION, "LOG_E": -1.3862943611198906}
    for name, coefficients in (("LOG", LOG_COEFFICIENTS), ("SIN", SIN_COEFFICIENTS), ("COS", COS_COEFFICIENTS)):
        values |= {f"{name}_{k}": c for k, c in enumerate(coefficients)}
    return "".join(f"#define {name} ({float(np.float32(value)):.9g}f)\n" for name, value in values.items())


def source() -> str:
    """Return the whole source, for nvrtc, nvcc or a host C compiler.

    Examples
    --------
    >>> "perturb" in source()
    True
    """
    body = (HERE / "kernels.cuh").read_text(encoding="utf-8")
    parts = [_constants(), (HERE / "philox.cuh").read_text(encoding="utf-8")]
    for real, name, letter in (("float", "f32", "F"), ("double", "f64", "D")):
        defines = {"REAL": real, "NAME(n)": f"n##_{name}", "MUL": f"VB_MUL{letter}", "ADD": f"VB_ADD{letter}"}
        parts += [f"#define {key} {value}\n" for key, value in defines.items()]
        parts.append(body)
        parts += [f"#undef {key.split('(')[0]}\n" for key in defines]
    return "\n".join(parts)
