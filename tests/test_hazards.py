"""The tables of hazards keep up with the code: their tests are there, and what their breaks change. .ci/hazards makes them."""

import ast
import functools
import os
from pathlib import Path

import pytest

from hazards.rows import TABLES, rows_of
from support import TESTS

ROOT = TESTS.parent
pytestmark = pytest.mark.skipif(not (ROOT / "src/externref/_core.pyx").is_file(), reason="needs a checkout")
ROWS = {row["name"]: row for row in rows_of(*TABLES)}
KEYS = {"name", "happened", "tests", "break", "as_in", "why_no_break"}
INSTEAD = {"break", "as_in", "why_no_break"}
KEYS_OF_BREAK = {"changes", "tests", "modules", "without_gil", "tries"}


def named_in(tree, prefix=""):
    """The names of the tests in a parsed file, as pytest has them after the file's."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield from named_in(node, f"{prefix}{node.name}::")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "TestCase":
            yield node.targets[0].id    # of a state machine


@functools.cache
def known_in(file):
    return set(named_in(ast.parse((ROOT / file).read_text(encoding="utf-8"))))


def test_names_are_unique():
    assert len(ROWS) == len(rows_of(*TABLES))


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row["name"])
def test_a_row_is_whole(row):
    assert set(row) <= KEYS and row["happened"] and len(INSTEAD & set(row)) == 1
    assert row["tests"] or "why_no_break" in row
    if "as_in" in row:
        assert "break" in ROWS[row["as_in"]] and set(row["tests"]) <= set(ROWS[row["as_in"]]["tests"])
    for test in row["tests"]:
        file, _, name = test.partition("::")
        assert name in known_in(file), test
    for breaking in row.get("break", []):
        assert set(breaking) <= KEYS_OF_BREAK and set(breaking.get("tests", ())) <= set(row["tests"])
        for module in breaking.get("modules", ()):
            assert (ROOT / f"src/externref/{module}.pyx").is_file()
        for file, old, new in breaking["changes"]:
            assert (ROOT / file).read_text(encoding="utf-8").count(old) == 1 and old != new, (file, old)


def test_every_hazard_that_was_asked_for_has_a_row():
    """The list is in the file beside the folder of the WebAssembly test suite."""
    folder = os.environ.get("EXTERNREF_SPEC_TESTS")
    listed = Path(folder).parent / "HAZARDS.md" if folder else None
    if listed is None or not listed.is_file():
        pytest.skip("EXTERNREF_SPEC_TESTS names no folder beside a HAZARDS.md")
    tables = [line for line in listed.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(rows_of("hazards.toml")) == len([line for line in tables if not line.startswith(("|---", "| what happened"))])


def test_the_page_says_how_many():
    breaks = sum(len(row.get("break", ())) for row in ROWS.values())
    assert f"have {len(ROWS)} rows, and {breaks} ways" in (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
