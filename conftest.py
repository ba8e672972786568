"""Doctests of modules whose optional package is missing are not collected."""

from importlib.util import find_spec

_NEEDS = {
    "torch": "torch",
    "_torch_layout": "torch",
    "_torch_optimizer": "torch",
    "optuna": "optuna",
    "gest": "gest_api",
}
collect_ignore = [f"vamo_bbo/integrations/{name}.py" for name, package in _NEEDS.items() if not find_spec(package)]
