"""Element segments of externrefs that are not null, which wasm2c leaves to the glue."""

import gc
import weakref

import pytest

from externref import wasm2c
from externref.wasm2c import GlobalType, TableType

# By number: this version of wat2wasm takes no global's name there.
TEXT = """(module
  (import "e" "a" (global externref)) (import "e" "at" (global $at i32)) (import "e" "b" (global externref))
  (import "e" "t" (table $imported 4 externref))
  (table $t (export "t") 8 externref) (memory 1)
  (elem (table $t) (i32.const 1) externref (global.get 0) (ref.null extern) (global.get 2))
  (elem (table $imported) (global.get $at) externref (global.get 2))
  (elem $empty externref)
  (elem $p externref (global.get 0) (ref.null extern) (global.get 2))
  (elem $f func $init)
  (elem declare func $init)
  (elem (table $t) (i32.const 7) externref (global.get 0))
  (func $init (export "init") (param i32 i32 i32) (table.init $t $p (local.get 0) (local.get 1) (local.get 2)))
  (func (export "empty") (param i32) (table.init $t $empty (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "drop") (elem.drop $p)))"""


class Thing:
    pass


@pytest.fixture
def table(store):
    return wasm2c.Table(store, TableType("externref", 4))


@pytest.fixture
def make(compile, store, table):
    def make(a, b, at=2):
        return compile(TEXT).instantiate(store, {"e": {"a": a, "b": b, "at": at, "t": table}}).exports
    return make


def test_active_segments(make, table):
    a, b = Thing(), Thing()
    exports = make(a, b)
    assert list(exports.t) == [None, a, None, b, None, None, None, a]
    assert list(table) == [None, None, b, None]


def test_passive_segments(make):
    a, b = Thing(), Thing()
    exports = make(a, b)
    exports.t.fill(0, 7, 8)
    exports.init(4, 0, 3)
    exports.init(0, 1, 2)
    exports.init(3, 0, 0)
    exports.empty(0)
    assert list(exports.t) == [None, b, 7, 7, a, None, b, 7]
    for to, start, count in ((6, 0, 3), (0, 1, 3), (0, 4, 0), (9, 0, 0), (0, -1, 1), (-1, 0, 1), (0, 0, -1)):
        with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
            exports.init(to, start, count)
    with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
        exports.empty(1)
    assert list(exports.t) == [None, b, 7, 7, a, None, b, 7]
    exports.drop()
    exports.init(0, 0, 0)
    with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
        exports.init(0, 0, 1)


def test_null_for_an_import(make):
    exports = make(None, None)
    assert list(exports.t) == [None] * 8
    exports.init(0, 0, 3)


def test_what_a_segment_has_lives(make, store, table):
    """As long as the instance does: its globals hold it."""
    exports = make(thing := Thing(), Thing())
    gone = weakref.ref(thing)
    del thing
    exports.t.fill(0, None, 8)
    store.gc()
    exports.init(0, 0, 3)
    assert exports.t[0] is gone() is not None and exports.t[2] is table[2]
    kept = weakref.ref(table[2])
    del exports
    gc.collect()
    store.gc()
    assert gone() is None and kept() is table[2] is not None


def test_a_segment_of_a_host_made_global(compile, store, table):
    holder = wasm2c.Global(store, GlobalType("externref"), thing := Thing())
    items = {"a": holder, "b": holder, "at": 0, "t": table}
    exports = compile(TEXT).instantiate(store, {"e": items}).exports
    assert exports.t[1] is exports.t[3] is exports.t[7] is table[0] is thing


def test_a_segment_that_does_not_fit(make, table):
    a, b = Thing(), Thing()
    for at in (4, -1, 2**31):
        with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
            make(a, b, at)
    assert list(table) == [None] * 4


def test_a_hundred_segments(compile, store):
    imports = "".join(f'(import "e" "{i}" (global externref))' for i in range(100))
    segments = "".join(f"(elem (table 0) (i32.const {i}) externref (global.get {99 - i}))" for i in range(100))
    things = [Thing() for _ in range(100)]
    exports = compile(f'(module {imports} (table (export "t") 100 externref) {segments})').instantiate(
        store, {"e": {str(i): thing for i, thing in enumerate(things)}}).exports
    assert list(exports.t) == things[::-1]
