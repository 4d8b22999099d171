"""How Sphinx builds the site: ``make docs``. It needs no network and runs no notebook."""

from importlib.metadata import version as version_of

project = "cdp-backfill"
author = "the authors of cdp-backfill"
version = release = version_of("cdp-backfill")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
templates_path: list[str] = []
exclude_patterns = ["build", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"cdp-backfill {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

nb_execution_mode = "off"  # the outputs are those that are stored; tests run the notebooks
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would come from elsewhere
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the types are in the signatures' docstrings, in words
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# There is no inventory of other projects without a network.
nitpick_ignore_regex = [("py:.*", r"(pandas|pd|pa|pyarrow|datetime|pathlib|collections)\..*")]
