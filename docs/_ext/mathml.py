"""Formulas as MathML: browsers render them without a script, a font or a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def render(translator: HTML5Translator, node: nodes.Node, *, block: bool) -> None:
    """Append the MathML of ``node``; a formula that cannot be translated is a warning, so ``-W`` stops the build."""
    source = node.astext()
    if block and "\\\\" in source and "\\begin" not in source:
        source = "\\begin{aligned}" + source + "\\end{aligned}"
    try:
        text = tex2mathml(source, as_block=block)
    except MathError as error:
        logger.warning("formula cannot be translated: %s", error, location=node)
        text = translator.encode(source)
    translator.body.append(f'<div class="math">{text}</div>\n' if block else text)
    raise nodes.SkipNode


def visit_inline(translator: HTML5Translator, node: nodes.Node) -> None:
    """Render an inline formula."""
    render(translator, node, block=False)


def visit_block(translator: HTML5Translator, node: nodes.Node) -> None:
    """Render a displayed formula."""
    render(translator, node, block=True)


def depart(translator: HTML5Translator, node: nodes.Node) -> None:
    """Do nothing: the visit skipped the node."""
    raise ExtensionError("a formula was entered twice")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; ``html_math_renderer = "mathml"`` chooses it."""
    app.add_html_math_renderer("mathml", (visit_inline, depart), (visit_block, depart))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
