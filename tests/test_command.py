"""External programs as objectives."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.command import Command, CommandError, Finished

PYTHON = sys.executable


def number(done: Finished) -> float:
    return float(done.stdout)


def script(text: str, **options: Any) -> Command:
    return Command([PYTHON, "-c", text, *options.pop("more", [])], options.pop("parse", number), **options)


def test_arguments_are_a_list_and_never_a_shell() -> None:
    nasty = "; echo 'hacked' > hacked & $(touch hacked) | \"x\" {x0}"
    seen: list[list[str]] = []

    def parse(done: Finished) -> float:
        seen.append(sorted(p.name for p in done.directory.iterdir()))
        return float(done.stdout)

    command = script("import sys; print(len(sys.argv[1]), end='')", more=[nasty], parse=parse)
    assert command([1.5]) == len(nasty.replace("{x0}", "1.5"))
    assert seen == [["stderr.txt", "stdout.txt"]]


def test_numbers_arrive_exactly() -> None:
    x = np.array([1 / 3, -1e-300])
    command = script(
        "import sys; print(sys.argv[1:])",
        more=["{a}", "{b}"],
        names=["a", "b"],
        parse=lambda d: float(eval(d.stdout)[0]),
    )
    assert command(x) == x[0]


def test_files_are_written_from_templates_and_functions() -> None:
    command = script(
        "print(open('deck/in.cir').read() + open('b.txt').read())",
        files={"deck/in.cir": "R1 1 0 {r} {{keep}}", "b.txt": lambda p: f" {p['r'] * 2}"},
        names=["r"],
        parse=lambda done: float(done.stdout == "R1 1 0 4.5 {keep} 9.0\n"),
    )
    assert command([4.5]) == 1.0


def test_a_failing_program_names_its_exit_code_and_output() -> None:
    with pytest.raises(CommandError, match=r"ended with exit code 3\.\n.*no convergence"):
        script("import sys; print('no convergence', file=sys.stderr); sys.exit(3)")([0.0])
    assert script("import sys; print(7); sys.exit(3)", ok_codes=(0, 3))([0.0]) == 7


def test_a_killed_program_and_one_that_does_not_exist() -> None:
    with pytest.raises(CommandError, match="was killed by SIGKILL"):
        script("import os; os.kill(os.getpid(), 9)")([0.0])
    with pytest.raises(CommandError, match="'no-such-program-zz' cannot be started: No such file"):
        Command(["no-such-program-zz"], number)([0.0])


def test_a_time_out_kills_the_children_too() -> None:
    text = "import subprocess, time; subprocess.Popen(['sleep', '1000.7245']); time.sleep(1000)"
    with pytest.raises(CommandError, match="timed out after 1 s"):
        script(text, timeout=1)([0.0])
    assert subprocess.run(["pgrep", "-f", "sleep 1000.7245"], capture_output=True, check=False).stdout == b""


@pytest.mark.parametrize(("keep", "kept"), [("none", 0), ("failed", 1), ("all", 2)])
def test_directories(tmp_path: Path, keep: Any, kept: int) -> None:
    command = script("import sys; print(1 / {x0})", keep=keep, folder=tmp_path)
    command([2.0])
    with pytest.raises(CommandError):
        command([0.0])
    assert len(list(tmp_path.iterdir())) == kept


def test_a_run_survives_a_crashing_program_and_travels_to_workers() -> None:
    command = script("import sys; x = {x0}; sys.exit(1) if x > 0.6 else print((x - 0.5)**2)")
    with pytest.raises(AttributeError):
        pickle.dumps(script("", parse=lambda done: 0.0))
    assert pickle.loads(pickle.dumps(command)) == command
    method = vb.zo_sgd(0.2, n_directions=1, smoothing=0.05)
    result = vb.minimize(command, [0.0], method=method, workers=2, rng=0, maxfev=20)
    assert result.fun < 0.05


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"arguments": "ls -l"}, "it is not a shell line"),
        ({"arguments": []}, "arguments must be a list of strings"),
        ({"parse": 3}, "parse must be callable"),
        ({"keep": "some"}, "keep must be"),
        ({"timeout": 0}, "timeout must be a positive"),
        ({"files": {"../x": ""}}, "inside the evaluation's directory"),
    ],
)
def test_bad_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(vb.OptionError, match=match):
        Command(**{"arguments": ["ls"], "parse": number, **options})


def test_unknown_fields_are_named() -> None:
    with pytest.raises(vb.OptionError, match=r"no parameter 'resistance' .* there are \['x0'\]"):
        script("{resistance}")([1.0])
