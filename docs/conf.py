"""Configuration of the documentation. It builds offline and without a warning: ``python3 tools/docs.py``."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import vamo_bbo  # noqa: E402

project = "vamo_bbo"
author = "the vamo_bbo developers"
copyright = author
version = release = vamo_bbo.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "mathml"]
html_math_renderer = "mathml"
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"
nitpicky = False

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "alabaster"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "description": "Minimize any Python objective behind scipy's call",
    "fixed_sidebar": True,
    "page_width": "1180px",
    "sidebar_width": "240px",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
    "show_powered_by": False,
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}


def skip_member(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the "Alias for field number 0" of named tuples: their Attributes section says it better."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Register the above."""
    app.connect("autodoc-skip-member", skip_member)
