"""The example and the documentation run."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example(capsys):
    program = runpy.run_path(str(ROOT / "examples/wasm2c_event_log.py"))
    assert program["main"]() == [2.5, ["any", "object"], {"at": "all"}, len]
    assert "released by a collection: 2" in capsys.readouterr().out


def test_the_documentations_code(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/wasm.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, {})
    printed = capsys.readouterr().out
    assert "object object" in printed and "from a guest, with status 3\n" in printed


def test_the_docstring():
    import doctest

    from externref import wasm2c
    assert doctest.testmod(wasm2c) == (0, 3)
