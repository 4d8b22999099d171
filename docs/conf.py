"""The configuration of Sphinx, for ``make docs``. A build needs no network and runs no notebook."""

from importlib.metadata import version as version_of
from typing import Any

project = "cdp-backfill"
author = "the authors of cdp-backfill"
version = release = version_of("cdp-backfill")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
templates_path: list[str] = []
exclude_patterns = ["build", "**/.ipynb_checkpoints"]

smartquotes_action = "D"  # dashes only, so that readers can copy quoted text
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = f"cdp-backfill {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

nb_execution_mode = "off"  # pages show the stored outputs; tests run the notebooks
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # these scripts would need a network
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True
add_module_names = False
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Without a network there is no inventory of other projects, so their names cannot be resolved.
nitpick_ignore_regex = [
    ("py:.*", r"(pandas|pd|datetime|pathlib|collections)(\..*)?|Path|Figure|Region|.*\.Lit"),
    (
        "py:.*",
        "ProgressChoice|Unreadable|InitVar|DateOrder|(Nonexistent|Ambiguous)Time|KeyPlace",
    ),  # their values are in the signature
    ("py:class", r"pa\.Table|Shared(Journal|Run)|FolderJournal|FailureReason|EventCounts"),
]

_NOT_CREATED_BY_USERS = {
    *("Plan", "Column", "Proposal", "Choice", "Question", "Problem", "Fix"),
    *("Report", "Progress", "Snapshot", "RunStats", "Sandbox"),
}


def _without_arguments(
    _app: Any,
    _what: str,
    name: str,
    _obj: Any,
    _options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Hide the arguments of classes that users receive but do not create."""
    if name.rsplit(".", 1)[-1] in _NOT_CREATED_BY_USERS:
        return "", returns
    return signature and signature.replace("<factory>", "{}"), returns


def setup(app: Any) -> None:
    """Register the hooks of this file with Sphinx."""
    app.connect("autodoc-process-signature", _without_arguments)
