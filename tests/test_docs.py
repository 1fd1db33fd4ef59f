"""The documents agree with the code, and with each other: one drawing, one ownership table, names that exist."""

import ctypes
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import externref
from externref import VMExternRef, abi
from support import run_compiler, run_rust_tool

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/externref"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
pytestmark = pytest.mark.skipif(not (PACKAGE / "_core.pyx").is_file(), reason="needs a checkout")


def drawing(path):
    """The first box of fields in a file, without what a comment puts before it and the third line's words."""
    lines = [line.removeprefix(" *").strip() for line in path.read_text().splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("lowest address"))
    box = lines[start:start + 7]
    assert box[1].startswith("+--") and box[6].startswith("'--- "[:3]), box
    return [box[1], box[2], box[4], box[5], box[6]]


@pytest.mark.parametrize("document", ["README.md", "docs/abi.md"])
def test_the_drawing_is_the_headers(document):
    assert drawing(ROOT / document) == drawing(PACKAGE / "include/externref.h")


def rows(text):
    """{call: what it does} of a table of the counts, however it is drawn."""
    found = {}
    for line in text.splitlines():
        cells = [cell.replace("`", "") for cell in re.split(r" *\| *|  +", line.strip(" |"))]
        if len(cells) == 4 and re.match(r"1$|0|same|[+-]1", cells[1]):
            found[cells[0]] = cells[1:]
    return found


def test_the_readmes_ownership_table_is_the_cores():
    core = rows((PACKAGE / "_core.pyx").read_text().partition('"""')[2].partition('"""')[0])
    readme = rows((ROOT / "README.md").read_text())
    assert len(core) >= 10
    assert readme == core


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\[[^\]\n\"]+\]\(([^)#]+)[^)]*\)", document.read_text()):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_contributors_are_told_of_programs_and_files_that_exist():
    # What each command does is .ci/run's to try.
    text = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "SECURITY.md").read_text()
    named = set(re.findall(r"(?<![\w/])((?:\.ci|tests|src|examples|\.github)/[\w./-]+)", text))
    assert len(named) >= 15
    for path in named:
        assert (ROOT / path).exists(), path
    steps = {path.name for path in (ROOT / ".ci").iterdir()} - {
        "chroot", "contents", "contributing", "copy", "extra", "freethreaded-python", "platforms", "python", "readme", "sdist", "tsan-suppressions", "valgrind-suppressions", "wheels"}
    assert steps == {path.removeprefix(".ci/") for path in named if path.startswith(".ci/")}


def test_the_description_for_an_index_has_no_link_to_a_file():
    try:
        metadata = importlib.metadata.metadata("externref")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("externref is on the path, and not installed")
    text = metadata.get_payload() or metadata["Description"]
    assert text.startswith("# externref\n") and "docs/benchmarks.md has a run of it" in text
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []


def test_the_changelog_has_this_version():
    assert f"\n## {externref.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_architecture_names_files_and_functions_that_exist():
    sources = {path: path.read_text() for folder in (PACKAGE, ROOT / "bench")
               for path in folder.rglob("*") if path.suffix in {".py", ".pyx", ".pxd", ".pxi", ".h", ".hpp"}}
    everything = "\n".join([*sources.values(), (ROOT / "tests/support.py").read_text()])
    page = (ROOT / "docs/architecture.md").read_text()
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    names = set(re.findall(r"`([^`]+)`", tables.partition("| word |")[0]))
    assert len(names) > 50
    for name in names:
        if is_file(name):
            assert found(name), name
        elif not name.startswith("grep"):
            assert re.search(rf"\b{last_part(name)}\b", everything), name
    # "`a`, `b` in `file`": where it says, not just somewhere.
    for inside, file in re.findall(r"((?:`[\w.]+`, )*`[\w.]+`) in `([\w/.]+)`", tables):
        for name in re.findall(r"`([^`]+)`", inside):
            if not is_file(name):
                assert re.search(rf"\b{last_part(name)}\b", found(file).read_text()), (name, file)


def is_file(name):
    return re.fullmatch(r"[\w/.]+\.(py|pyx|pxd|pxi|h|hpp|c|rs|toml)|\.ci/\w+|[\w/]+/|tests/\w+|(on_\w+/)?test_\w+", name)


def found(name):
    return next((path for path in (PACKAGE / name, ROOT / name, ROOT / "tests" / f"{name}.py") if path.exists()), None)


def last_part(name):
    return re.escape(name.removesuffix("()").rpartition(".")[2])


def test_every_promise_is_named_by_its_proofs():
    page = (ROOT / "docs/architecture.md").read_text()
    promises = re.findall(r"^\| (P\d+) \|.*\|.*\|(.*)\|$", page, re.MULTILINE)
    assert [promise for promise, _ in promises] == [f"P{n}" for n in range(1, 12)]
    for promise, proofs in promises:
        for proof in re.findall(r"`((?:on_\w+/)?test_\w+)`", proofs):
            text = (ROOT / "tests" / f"{proof}.py").read_text()
            assert re.search(rf"\b{promise}\b", text), f"{proof} does not name {promise}"


def test_recipes_for_finalizers_are_those_that_are_tested():
    page = (ROOT / "docs/abi.md").read_text()
    recipes = re.findall(r"```python\n(.*?)```", page.partition("### Who runs finalizers")[2].partition("\n## ")[0], re.DOTALL)
    tested = {line.strip() for line in (ROOT / "tests/test_drain.py").read_text().splitlines()}
    assert len(recipes) == 2
    assert not {line.strip() for recipe in recipes for line in recipe.splitlines()} - tested


# -- docs/owning.md: each block is compiled or run

# What the libraries' headers declare.
LIBRARIES = """
#include "externref_adapters.h"
typedef struct sqlite3 sqlite3;
typedef struct sqlite3_context sqlite3_context;
typedef struct sqlite3_value sqlite3_value;
enum { SQLITE_UTF8 = 1, G_PRIORITY_DEFAULT_IDLE = 200 };
int sqlite3_create_function_v2(sqlite3 *, const char *, int, int, void *, void (*)(sqlite3_context *, int, sqlite3_value **),
    void (*)(sqlite3_context *, int, sqlite3_value **), void (*)(sqlite3_context *), void (*)(void *));
unsigned g_idle_add_full(int, int (*)(void *), void *, void (*)(void *));
int step(void *);
void f(sqlite3_context *, int, sqlite3_value **);
"""


def block(language):
    found, = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/owning.md").read_text(), re.DOTALL)
    return found


@pytest.mark.parametrize("language", ["c", "c++"])
def test_owning_in_c(compilers, tmp_path, language):
    (tmp_path / "share.c").write_text(LIBRARIES + block("c"))
    for compiler in compilers:
        run_compiler(compiler, f"-x{language}", "-c", tmp_path / "share.c", "-o", tmp_path / "share.o")


@pytest.mark.parametrize("library", ["ctypes", "cffi"])
def test_owning_without_a_c_compiler(library):
    line, = [line for line in block("python").splitlines() if line.endswith(f"# {library}")]
    scope = {"abi": abi, "ctypes": ctypes}
    if library == "cffi":
        scope["ffi"] = pytest.importorskip("cffi", reason="cffi is not installed").FFI()
    exec(line, scope)
    raw = VMExternRef(object()).into_raw()
    scope["destroy"](scope["ffi"].cast("void *", raw) if library == "cffi" else raw)
    externref.drain()
    assert externref.stats().live_blocks == 0


def test_owning_in_rust(tmp_path):
    rustc = shutil.which("rustc") or pytest.skip("no rustc found: install rustc")
    shutil.copy(ROOT / "examples/rust/externref.rs", tmp_path)
    (tmp_path / "lib.rs").write_text("pub mod externref;\n" + block("rust"))
    result = run_rust_tool(rustc, "--edition", "2021", "-D", "warnings", "--crate-type", "cdylib", "lib.rs", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_owning_names_every_adapter():
    header = (PACKAGE / "include/externref_adapters.h").read_text()
    functions = re.findall(r"^static inline void (externref_\w+)\(", header, re.MULTILINE)
    table = (ROOT / "docs/owning.md").read_text().partition("## ")[0]
    assert len(functions) == 4
    assert [name for name in functions if f"`{name}`" not in table] == []


def test_cython_example_is_the_downstream_packages():
    page = (ROOT / "docs/cython.md").read_text()
    for language, name in ("cython", "downstream.pyx"), ("toml", "pyproject.toml"), ("python", "setup.py"):
        block, = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        tested = (ROOT / "tests/downstream" / name).read_text()
        for part in block.split("\n\n"):       # as they stand, next to each other or not
            assert part.strip("\n") in tested, part


# -- docs/debugging.md is run as it stands

def test_debugging(tmp_path):
    text = (ROOT / "docs/debugging.md").read_text()
    program, part, snapshots, tests, mistakes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    expected, = re.findall(r"```text\n(.*?)```", text, re.DOTALL)

    def run(*command, **environment):
        return subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, **environment})

    (tmp_path / "app.py").write_text(program)
    result = run("app.py", EXTERNREF_DEBUG="1")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.replace(f"{tmp_path}/", "") == expected

    (tmp_path / "parts.py").write_text("from app import *\n" + part + snapshots + mistakes)
    result = run("parts.py")
    assert result.returncode == 0, result.stderr
    assert "1 x Big made at" in result.stdout and "list made at" not in result.stdout
    assert "+ list, not tracked" in result.stdout
    assert "ref_count  1: 1 of Python, 0 of compiled code" in result.stdout
    said = "compiled code dropped a freed reference: Big made at"
    assert result.stderr.startswith(f"externref: {said}") and f"['{said}" in result.stdout

    (tmp_path / "test_app.py").write_text("from app import *\n" + tests)
    result = run("-m", "pytest", "-q", "-p", "_externref_pytest", "-p", "no:cacheprovider", "--strict-markers", "test_app.py",
                 PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTHONPATH=os.pathsep.join([".", *sys.path]))
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    assert "1 reference owned by compiled code" in result.stdout
