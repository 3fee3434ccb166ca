"""Settings of the documentation site, which scripts/docs-site builds with Sphinx."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from documentation.site_pages import notebook_page, unbroken, with_short_words, with_unbroken_cells
from git_theta_ext import interfaces
from git_theta_ext.version import __version__

project = "git theta"
release = version = __version__
html_title = f"git theta {release}"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
highlight_language = "text"  # of blocks that name none
html_copy_source = False
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_mock_imports = ["torch"]  # the site is built without it, and in seconds
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_AS_WRITTEN = (nodes.literal, nodes.FixedTextElement, nodes.raw, nodes.title, nodes.comment)

for name in interfaces.__all__:  # autodoc lists only names that are loaded
    getattr(interfaces, name)


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the source of a page before it is parsed."""
    path = Path(app.env.doc2path(name))
    source[0] = with_unbroken_cells(notebook_page(source[0], path.name) if path.suffix == ".ipynb" else source[0])


def keep_together(_app: Sphinx, page: nodes.document) -> None:
    """Keep units and names on one line, but not in code, which readers copy, or in titles, which are searched."""
    for text in list(page.findall(nodes.Text)):
        if isinstance(text.parent, nodes.TextElement) and not isinstance(text.parent, _AS_WRITTEN):
            text.parent.replace(text, nodes.Text(unbroken(text.astext())))


def mark_short_words(
    _app: Sphinx, _name: str, _template: str, context: dict[str, Any], _page: nodes.document | None
) -> None:
    """Mark the words of code that the style sheet keeps on one line."""
    if "body" in context:
        context["body"] = with_short_words(context["body"])


def setup(app: Sphinx) -> None:
    """Register the events, as Sphinx asks for."""
    app.connect("source-read", prepare)
    app.connect("doctree-read", keep_together)
    app.connect("html-page-context", mark_short_words)
