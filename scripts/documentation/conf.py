"""Settings of the documentation site, which scripts/docs-site builds with Sphinx."""

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
