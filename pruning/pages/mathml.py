"""A Sphinx extension: formulas as MathML, which browsers draw themselves, with no script.

math-core translates TeX when the book is built; a formula that it cannot read is a warning,
and so fails the build. Few systems have a font for formulas, so the book brings what it needs
of STIX Two Math (SIL Open Font License), as the package ziamath ships it.
"""

from importlib.resources import as_file, files
from pathlib import Path

from docutils import nodes
from fontTools import subset
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

FONT = Path("_static") / "stix-two-math.woff"  # book.css names it
CHARACTERS = [
    (0x0020, 0x00FF),  # Latin
    (0x02C6, 0x02DC),  # accents
    (0x0391, 0x03F5),  # Greek
    (0x2010, 0x2064),  # punctuation, invisible operators
    (0x2100, 0x22FF),  # letterlike, arrows, operators
    (0x2308, 0x230B),
    (0x27E8, 0x27E9),
    (0x1D434, 0x1D467),  # italic
    (0x1D49C, 0x1D4CF),  # script
    (0x1D538, 0x1D56B),  # double-struck
    (0x1D7D8, 0x1D7E1),
    (0x1D6E2, 0x1D71B),  # italic Greek
]
log = logging.getLogger(__name__)
converter = LatexToMathML()


def _mathml(node: nodes.Element, display: bool) -> str:
    try:
        return converter.convert_with_local_state(node.astext(), displaystyle=display)
    except LatexError as error:
        log.warning("formula %r: %s", node.astext(), error, location=node)
        return ""


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, display=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math-block">{_mathml(node, display=True)}</div>\n')
    raise nodes.SkipNode


def _font(app: Sphinx, failed: Exception | None) -> None:
    target = Path(app.outdir) / FONT
    if failed or app.builder.format != "html" or target.is_file():
        return
    options = subset.Options(flavor="woff", layout_features=["math", "ssty"])
    with as_file(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf") as source:
        font = subset.load_font(str(source), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(
        unicodes=[c for first, last in CHARACTERS for c in range(first, last + 1)]
    )
    subsetter.subset(font)
    subset.save_font(font, str(target), options)


def setup(app: Sphinx) -> dict:
    """Register the renderer and the font."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("build-finished", _font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
