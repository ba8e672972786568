"""External programs as objectives: one process and one directory per evaluation, never through a shell."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from vamo_bbo._errors import OptionError

__all__ = ["Command", "CommandError", "Finished"]

SHOWN = 2000
"""Characters of a failed program's output in the error."""
Template: TypeAlias = str | Callable[[Mapping[str, Any]], str]


class CommandError(RuntimeError):
    """The program failed: exit code, signal or time-out, with the end of its output."""


class Finished(NamedTuple):
    """A program that ended well, for ``parse``.

    Attributes
    ----------
    stdout, stderr : str
        What it printed.
    directory : Path
        Where it ran; removed after ``parse``.
    params : dict
        The parameters it ran with.
    """

    stdout: str
    stderr: str
    directory: Path
    params: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """An objective that runs a program and reads a number from what it leaves.

    Parameters
    ----------
    arguments : sequence of str
        Program and arguments, one string each; ``{name}`` is replaced by a parameter. No shell is involved, so quotes,
        spaces and semicolons mean nothing special.
    parse : callable ``parse(finished) -> float``
        Gets a :class:`Finished`. An exception, or NaN, is a failed evaluation.
    names : sequence of str, optional
        Names of the elements of ``x``; default ``x0, x1, ...``. With a :class:`~vamo_bbo.space.Space` the parameters
        have names already.
    files : mapping of str to str or callable, optional
        Files written before the program starts: name to template with ``{name}`` fields (``{{`` is a brace), or to a
        function of the parameters that returns the text.
    timeout : float, optional
        Seconds after which the program and its children are killed; a failed evaluation.
    environment : mapping of str to str, optional
        Added to the environment.
    keep : {"none", "failed", "all"}, default "none"
        Which directories are kept; the error of a failed evaluation names its directory.
    folder : path, optional
        Where the directories are made; default: the temporary folder.
    ok_codes : sequence of int, default (0,)
        Exit codes that count as success.

    Raises
    ------
    OptionError
        An argument has a value that is not allowed.

    Examples
    --------
    >>> import sys
    >>> square = Command([sys.executable, "-c", "print(({x0} - 3)**2)"], parse=lambda done: float(done.stdout))
    >>> square(np.array([5.0]))
    4.0
    """

    arguments: Sequence[str]
    parse: Callable[[Finished], float]
    names: Sequence[str] | None = None
    files: Mapping[str, Template] = field(default_factory=dict)
    timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    keep: Literal["none", "failed", "all"] = "none"
    folder: str | os.PathLike[str] | None = None
    ok_codes: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        if isinstance(self.arguments, str) or not self.arguments or not all(isinstance(a, str) for a in self.arguments):
            raise OptionError(
                f"Command: arguments must be a list of strings, the program first, got {self.arguments!r}; "
                "it is not a shell line."
            )
        if not callable(self.parse):
            raise OptionError(f"Command: parse must be callable, got {self.parse!r}.")
        if self.keep not in ("none", "failed", "all"):
            raise OptionError(f"Command: keep must be 'none', 'failed' or 'all', got {self.keep!r}.")
        if self.timeout is not None and not self.timeout > 0:
            raise OptionError(f"Command: timeout must be a positive number of seconds or None, got {self.timeout!r}.")
        for name in self.files:
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise OptionError(f"Command: files are written inside the evaluation's directory, got {name!r}.")

    def __call__(self, x: Any = None, /, **params: Any) -> float:
        """Run the program at ``x`` (array or dict of parameters) and return its value.

        Raises
        ------
        CommandError
            The program failed or timed out.
        """
        named = {**self._named(x), **params}
        directory = Path(tempfile.mkdtemp(prefix="evaluation-", dir=self.folder))
        failed = True
        try:
            value = float(self.parse(self._run(named, directory)))
            failed = not np.isfinite(value)
            return value
        finally:
            if self.keep == "none" or (self.keep == "failed" and not failed):
                shutil.rmtree(directory, ignore_errors=True)

    def _named(self, x: Any) -> dict[str, Any]:
        if x is None:
            return {}
        if isinstance(x, Mapping):
            return dict(x)
        values = np.atleast_1d(np.asarray(x)).tolist()
        names = [f"x{j}" for j in range(len(values))] if self.names is None else list(self.names)
        if len(names) != len(values):
            raise OptionError(f"Command: {len(names)} names for {len(values)} variables.")
        return dict(zip(names, values, strict=True))

    def _fill(self, template: Template, params: Mapping[str, Any]) -> str:
        if not isinstance(template, str):
            return template(params)
        try:
            # repr of a float is the shortest text that reads back as the same number
            return template.format_map({k: repr(v) if isinstance(v, float) else v for k, v in params.items()})
        except (KeyError, IndexError) as error:
            raise OptionError(f"Command: no parameter {error} in {template!r}; there are {sorted(params)}.") from None

    def _run(self, params: dict[str, Any], directory: Path) -> Finished:
        for name, template in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._fill(template, params))
        command = [self._fill(argument, params) for argument in self.arguments]
        with open(directory / "stdout.txt", "w+b") as out, open(directory / "stderr.txt", "w+b") as err:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, **self.environment},
                    start_new_session=sys.platform != "win32",
                )
            except OSError as error:
                raise CommandError(f"{command[0]!r} cannot be started: {error.strerror}.") from error
            how = self._wait(process)
            stdout, stderr = (_text(f) for f in (out, err))
        if how is not None:
            kept = f" Its directory is kept: {directory}." if self.keep != "none" else ""
            raise CommandError(f"{command[0]!r} {how}.{kept}\n{(stderr or stdout)[-SHOWN:]}".rstrip())
        return Finished(stdout, stderr, directory, params)

    def _wait(self, process: subprocess.Popen[bytes]) -> str | None:
        """Wait for the program, and return how it failed, or None."""
        try:
            code = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return f"timed out after {self.timeout:g} s"
        finally:
            _kill(process)
        if code in self.ok_codes:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the program and its children, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode(errors="replace")
    return text
