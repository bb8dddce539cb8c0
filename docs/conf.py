"""How the documentation is built: `make docs`."""

import importlib.metadata
import os

project = "ndfile"
author = "the ndfile developers"
copyright = f"2026, {author}"
version = release = importlib.metadata.version("ndfile")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autosummary_generate = True
autodoc_inherit_docstrings = False
autodoc_typehints = "none"  # the docstrings give types and units
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
add_module_names = False

# A prompt is not part of what is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "ndfile"
html_static_path = ["_static"]
html_css_files = ["wide-tables.css"]
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
html_sidebars = {"index": []}

nitpicky = False
suppress_warnings: list[str] = []
os.environ["NDFILE_GUARD"] = "0"  # nothing is mapped here

templates_path = ["_templates"]


def _skip_inherited(app, what, name, member, skip, options):
    """Leave out what classes have from NumPy and Python, and what is described there: ndarray has a hundred methods."""
    origin = getattr(member, "__objclass__", None) or getattr(member, "fget", None) or member
    return skip or not member.__doc__ or not str(getattr(origin, "__module__", "")).startswith("ndfile")


def setup(app):
    app.connect("autodoc-skip-member", _skip_inherited)
