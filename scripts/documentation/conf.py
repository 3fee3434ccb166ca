"""Settings of the documentation site, which scripts/docs-site builds with Sphinx."""

from pathlib import Path

from sphinx.application import Sphinx

from documentation.site_pages import notebook_page, with_units
from git_theta_ext import interfaces
from git_theta_ext.version import __version__

project = "git theta"
release = version = __version__
html_title = f"git theta {release}"
html_theme = "furo"
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

for name in interfaces.__all__:  # autodoc lists only names that are loaded
    getattr(interfaces, name)


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the source of a page before it is parsed."""
    path = Path(app.env.doc2path(name))
    source[0] = with_units(notebook_page(source[0], path.name) if path.suffix == ".ipynb" else source[0])


def setup(app: Sphinx) -> None:
    """Register the event, as Sphinx asks for."""
    app.connect("source-read", prepare)
