"""A transistor amplifier simulated by ngspice, an external process: choose the resistors."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from problems.data import DataUnavailable
from problems.problem import Array, Built, Problem

NETLIST = """common-emitter amplifier
Vcc vcc 0 12
Vin in 0 dc 0 ac 1
Cin in b 10u
R1 vcc b {r1:.6g}
R2 b 0 {r2:.6g}
Rc vcc c {rc:.6g}
Re e 0 {re:.6g}
Q1 c b e npn
Cout c out 10u
Rload out 0 100k
.model npn npn(bf=150 is=1e-14 vaf=100 cje=4p cjc=3p tf=0.4n)
.control
op
let vc = v(c)
let supply = -i(vcc)
print vc supply
ac dec 10 10 100meg
meas ac gain find vdb(out) at=10k
meas ac peak max vdb(out)
let edge = peak - 3
meas ac width when vdb(out)=edge fall=last
.endc
.end
"""


def amplifier(x: Array) -> float:
    """Return how far an amplifier is from its specification, plus its power.

    Wanted are a gain of 26 dB at 10 kHz, the collector at 6 V for the largest swing, and a bandwidth of at least 1 MHz;
    power counts 1 per 100 mW.

    Parameters
    ----------
    x : (4,) array
        Decimal logarithms of R1, R2, Rc, Re in ohms.
    """
    found = simulate_amplifier(x)
    short = max(0.0, 6.0 - np.log10(max(found["width"], 1.0)))
    off = ((found["gain"] - 26.0) / 3.0) ** 2 + (found["vc"] - 6.0) ** 2 + short**2
    return float(off + 12.0 * found["supply"] / 0.1)


def simulate_amplifier(x: Array) -> dict[str, float]:
    """Run ngspice once; return gain (dB), collector voltage (V), supply current (A) and upper band edge (Hz)."""
    if shutil.which("ngspice") is None:
        raise DataUnavailable("The amplifier needs ngspice: run `apt-get install --no-install-recommends ngspice`.")
    r1, r2, rc, re_ = 10.0 ** np.asarray(x, dtype=float)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "amplifier.cir"
        path.write_text(NETLIST.format(r1=r1, r2=r2, rc=rc, re=re_), encoding="ascii")
        done = subprocess.run(["ngspice", "-b", str(path)], capture_output=True, text=True, check=False, timeout=60)
    values = dict(re.findall(r"^(vc|supply|gain|width)\s*=\s*(\S+)", done.stdout, flags=re.MULTILINE))
    missing = {"vc", "supply", "gain"} - set(values)
    if missing:
        raise RuntimeError(f"ngspice gave no {', '.join(sorted(missing))} at x = {np.round(x, 3).tolist()}.")
    return {"width": 1.0, **{name: float(text) for name, text in values.items()}}


def meets_specification(x: Array) -> bool:
    """Say whether gain is within 1 dB, the collector within 1 V, and the band at least 1 MHz wide."""
    found = simulate_amplifier(x)
    return abs(found["gain"] - 26) < 1 and abs(found["vc"] - 6) < 1 and found["width"] >= 1e6


def _build_amplifier() -> Built:
    """Return the design of the four resistors, started at a bias that works with little gain."""
    box = np.array([[3.5, 6.0], [3.0, 5.5], [2.0, 4.5], [1.0, 4.0]])
    return Built(amplifier, np.log10([82e3, 15e3, 2.2e3, 680.0]), bounds=box, success=meets_specification)


def problems() -> Iterable[Problem]:
    """Return the design of the four resistors."""
    yield Problem(
        "amplifier",
        4,
        "simulator",
        "Resistors of a common-emitter amplifier: gain, swing, bandwidth, power.",
        _build_amplifier,
        "25 ms, a process",
        "BSD-3-Clause (ngspice)",
        None,
        ("ngspice",),
    )
