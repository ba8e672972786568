"""Doctests of modules whose optional package is missing are not collected."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["vamo_bbo/integrations/torch.py"]
