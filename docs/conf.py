"""How the documentation is built: MyST pages, and an API reference from the docstrings."""

import re
import sys
from pathlib import Path

import tiltflow
from tiltflow.report import palette

sys.path.insert(0, str(Path(__file__).parent))
import command_line

project = "tiltflow"
author = "the tiltflow founders"
project_copyright = f"2026, {author}"
release = version = tiltflow.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "figures"]
default_role = "py:obj"  # a name in backticks is a link where there is something to link to

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_class_signature = "separated"
autodoc_typehints = "none"  # shapes and types stand in the docstrings
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "tiltflow"
html_static_path = ["_static"]
html_css_files = ["tiltflow.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#b85a16",
        "color-brand-content": "#b85a16",
        "color-brand-visited": "#b85a16",
        "color-api-name": "#b85a16",
        "color-sidebar-link-text": "#596172",
        "color-sidebar-link-text--top-level": palette.INK,
        "color-api-pre-name": palette.INK,
        "color-foreground-primary": palette.INK,
        "color-background-primary": "#ffffff",
        "color-background-secondary": "#faf9f7",
        "color-background-border": "#e3e3e6",
    },
    "dark_css_variables": {
        "color-brand-primary": "#eb9a5c",
        "color-brand-content": "#eb9a5c",
        "color-brand-visited": "#eb9a5c",
        "color-api-name": "#eb9a5c",
        "color-sidebar-link-text": "#a2a9b8",
        "color-sidebar-link-text--top-level": "#e9eaee",
        "color-api-pre-name": "#e9eaee",
        "color-foreground-primary": "#e9eaee",
        "color-background-primary": "#14161a",
        "color-background-secondary": "#1b1e24",
        "color-background-border": "#2e323b",
    },
}

CODE = re.compile(r"(`[^`]*`)")


def plain_words(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are prose: bars, stars and underscores mean themselves outside of backticks."""
    for i, line in enumerate(lines):
        parts = CODE.split(line)
        parts[::2] = [re.sub(r"([|*\\])|(?<=\w)(_)(?!\w)", r"\\\1\2", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def with_commands(app, name: str, source: list[str]) -> None:
    """The command line's page gets its commands."""
    source[0] = source[0].replace(command_line.PLACE, command_line.written())


def setup(app) -> None:
    """Docstrings are read before napoleon reads them (its priority is 500)."""
    app.connect("source-read", with_commands)
    app.connect("autodoc-process-docstring", plain_words, priority=400)
