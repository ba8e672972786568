"""Finds the problems: every module of this package that has a function ``problems()`` is one family."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from functools import cache

import problems as package
from problems.problem import Problem
from problems.suites import open_problem
from vamo_bbo._errors import close_matches


@cache
def find() -> dict[str, Problem]:
    """Return all problems by name, families and names in alphabetical order.

    A new family is a new file with ``def problems() -> Iterable[Problem]``; nothing else has to be edited.
    """
    found: dict[str, Problem] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        family = getattr(module, "problems", None)
        if not callable(family):
            continue
        for problem in sorted(family(), key=lambda problem: problem.name):
            if problem.name in found:
                raise ValueError(f"{info.name}: the problem name {problem.name!r} is already taken.")
            found[problem.name] = replace(problem, family=info.name)
    return found


def names(*, offline: bool = False) -> list[str]:
    """Return the names of all problems, or only of those that need no download."""
    return [name for name, problem in find().items() if not (offline and "download" in problem.needs)]


def get(name: str) -> Problem:
    """Return the problem called ``name``, from the zoo or from one of the suites of :mod:`problems.suites`.

    Raises
    ------
    KeyError
        There is no such problem; the message names the closest ones.

    Examples
    --------
    >>> get("logistic-breast-cancer").kind
    'finite_sum'
    """
    known = find()
    if name not in known:
        opened = open_problem(name)
        if opened is not None:
            return opened
        hint = close_matches(name, known) or "; `python -m problems list` shows them all"
        raise KeyError(f"There is no problem called {name!r}{hint}.")
    return known[name]
