"""The site of docs/: python -m pip install ".[docs]" && python -m sphinx -W docs build/site

The pages are plain Markdown, for readers of the files too. The API's is made of the stubs, so that nothing is compiled
or imported for it.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "externref"
author = "the externref authors"
release = re.search(r'__version__ = "(.*)"', (ROOT / "src/externref/__init__.py").read_text())[1]
extensions = ["autoapi.extension", "myst_parser", "sphinx_copybutton"]
exclude_patterns = ["api/index.rst"]

html_theme = "furo"
html_title = f"externref {release}"
html_show_copyright = False     # LICENSE has it
html_static_path = ["site"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
pygments_style, pygments_dark_style = "friendly", "github-dark"

myst_heading_anchors = 4
highlight_language = "text"     # of a block that names none: a drawing
default_role = "code"       # what is between single backticks in a docstring

PUBLIC = {"externref", "externref.abi", "externref.ctypes", "externref.debug", "externref.numba", "externref.wasm2c",
          "externref.wasmtime"}
autoapi_dirs = [str(ROOT / "src/externref")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_file_patterns = ["*.pyi", "*.py"]
autoapi_options = ["members", "undoc-members", "imported-members", "show-inheritance"]
autoapi_member_order = "bysource"
suppress_warnings = [
    "misc.highlighting_failure",            # Pygments does not know the reference types of WebAssembly
    "autoapi.python_import_resolution",     # of private modules, which are not shown
    "ref.python",                           # `type` in an annotation is many classes' property, too
]


def links(app, where, parent, source):
    """A link to a file beside docs/ leads to its page; one to a folder is text. Files of programs are for download."""
    folder = (Path(app.srcdir) / parent).parent if where is None else (Path(app.srcdir) / where).resolve().parent

    def new(link):
        target = (folder / link[2]).resolve()
        if target.parent == ROOT and target.suffix == ".md":
            return f"[{link[1]}]({'index' if target.stem == 'README' else target.stem.lower()}.md{link[3] or ''})"
        if target.is_dir():
            return f"{link[1]} (`{target.relative_to(ROOT)}`)"
        return link[0] if where is None or link[2].startswith("docs/") else f"[{link[1]}](../{link[2]})"

    source[0] = re.sub(r"\[([^\]\n]+)\]\((?!https?:)([\w./-]+)(#[\w-]+)?\)", new, source[0])


def not_public(app, what, name, obj, skip, options):
    return name not in PUBLIC if what in ("module", "package") else skip


ARGUMENT = re.compile(r"(?!Source|Threads|Raises)(\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*): (.*)")


def docstring(app, what, name, obj, options, lines):
    """As reStructuredText: "name: text" is an item of a list, and what is indented is code."""
    result = []
    kind = None     # of the lines before this one: text, code, item
    for line in lines:
        argument = result and ARGUMENT.match(line)      # the first line says what it is
        if not line:
            kind = None if kind == "text" else kind
        elif argument:
            if kind != "item":
                result.append("")
            line, kind = f"* ``{argument[1]}``: {argument[2]}", "item"
        elif line.startswith("- "):
            kind = "item"
        elif line.startswith(" ") and kind == "item":
            line = "  " + line.strip()
        elif line.startswith(" ") and kind == "text":
            line = line.strip()
        elif line.startswith("    ") and kind in (None, "code"):
            if kind is None:
                result += [".. code-block:: python", ""]
            kind = "code"
        else:
            if kind not in (None, "text"):
                result.append("")
            kind = "text"
        if kind != "code":      # a star is a star
            line = "".join(part if part.startswith("`") else re.sub(r"(?<!^)\*", r"\\*", part)
                           for part in re.split(r"(`+[^`]*`+)", line))
        result.append(line)
    lines[:] = result


def setup(app):
    app.connect("source-read", lambda app, name, source: links(app, None, name, source))
    app.connect("include-read", links)
    app.connect("autoapi-skip-member", not_public)
    app.connect("autodoc-process-docstring", docstring)
