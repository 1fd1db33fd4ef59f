"""Tables, memories and globals that Python makes, and what they share with an instance's."""

import gc
import sys
import weakref

import pytest

from externref import VMExternRef, wasm2c
from externref.wasm2c import GlobalType, MemoryType, TableType
from support import Calling

IMPORTS = """(module
  (import "e" "t" (table $t 2 externref)) (import "e" "f" (table $f 1 funcref))
  (import "e" "m" (memory 1)) (import "e" "g" (global $g (mut externref))) (import "e" "n" (global $n i64))
  (type $answer (func (result i32)))
  (func $answer (export "answer") (type $answer) (i32.const 42))
  (elem declare func $answer)
  (func (export "swap") (local externref) (local.set 0 (global.get $g))
    (global.set $g (table.get $t (i32.const 0))) (table.set $t (i32.const 0) (local.get 0)))
  (func (export "grow") (param externref i32) (result i32) (table.grow $t (local.get 0) (local.get 1)))
  (func (export "grow_memory") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "n") (result i64) (global.get $n))
  (func (export "keep") (table.set $f (i32.const 0) (ref.func $answer)))
  (func (export "call") (result i32) (call_indirect $f (type $answer) (i32.const 0))))"""


class Thing:
    pass


def make(store, **changes):
    return {"t": wasm2c.Table(store, TableType("externref", 2, 9)), "f": wasm2c.Table(store, TableType("funcref", 1)),
            "m": wasm2c.Memory(store, MemoryType(1, 3)),
            "g": wasm2c.Global(store, GlobalType("externref", mutable=True)),
            "n": wasm2c.Global(store, GlobalType("i64"), -5), **changes}


def test_compiled_code_and_python_share_them(compile, store):
    items = make(store)
    exports = compile(IMPORTS).instantiate(store, {"e": items}).exports
    thing, other = Thing(), Thing()
    items["t"][0], items["g"].value = thing, other
    exports.swap()
    assert items["t"][0] is other and items["g"].value is thing
    assert exports.grow(thing, 3) == 2 and len(items["t"]) == 5 and items["t"][4] is thing
    assert exports.grow(thing, 100) == -1 and items["t"].grow(4) == 5
    exports.store(65532, 7)
    assert items["m"].read(65532) == b"\7\0\0\0"
    assert items["m"].grow(1) == 1 and exports.load(65536) == 0
    assert exports.grow_memory(1) == 2 and exports.grow_memory(1) == -1
    assert items["m"].write(b"\1\2\3\4", 196604) == 4 and exports.load(196604) == 0x04030201
    assert exports.n() == -5


def test_two_instances_share_one(compile, store):
    items = make(store)
    module = compile(IMPORTS)
    one, two = (module.instantiate(store, {"e": items}).exports for _ in range(2))
    one.keep()
    assert two.call() == 42
    assert items["f"][0]() == 42
    items["f"][0] = None
    with pytest.raises(wasm2c.Trap, match="call_indirect"):
        two.call()


def test_what_they_hold_lives_as_long_as_they_do(store):
    table = wasm2c.Table(store, TableType("externref", 2), thing := Thing())
    holder = wasm2c.Global(store, GlobalType("externref", True), other := Thing())
    gone, other_gone = weakref.ref(thing), weakref.ref(other)
    del thing, other
    store.gc()
    assert gone() is table[1] is not None and other_gone() is holder.value is not None
    table[0] = None
    store.gc()
    assert gone() is not None
    table[1] = None
    holder.value = None
    store.gc()
    assert gone() is None and other_gone() is None


def test_dropping_one_drops_what_it_holds(store):
    for make in (lambda thing: wasm2c.Table(store, TableType("externref", 1), thing),
                 lambda thing: wasm2c.Global(store, GlobalType("externref"), thing)):
        item = make(thing := Thing())
        gone = weakref.ref(thing)
        del thing
        store.gc()
        assert gone() is not None
        del item
        assert gone() is None


def test_an_instance_keeps_what_it_imports(compile, store):
    items = make(store)
    exports = compile(IMPORTS).instantiate(store, {"e": items}).exports
    items["t"][0] = Thing()
    items.clear()
    gc.collect()
    exports.swap()
    exports.swap()
    assert exports.grow(None, 1) == 2
    exports.store(0, 1)
    assert exports.load(0) == 1


def test_a_function_in_one_keeps_its_instance(compile, store):
    items = make(store)
    instance = compile(IMPORTS).instantiate(store, {"e": items})
    other = wasm2c.Table(store, TableType("funcref", 1), instance.exports.answer)
    holder = wasm2c.Global(store, GlobalType("funcref"), instance.exports.answer)
    del instance
    gc.collect()
    assert other[0]() == holder.value() == 42


def test_a_cycle_through_one_is_collected(compile):
    store = wasm2c.Store()
    thing = Thing()
    thing.table = wasm2c.Table(store, TableType("externref", 1), thing)
    thing.holder = wasm2c.Global(store, GlobalType("externref"), thing)
    gone = weakref.ref(thing)
    del thing, store
    gc.collect()
    assert gone() is None


def test_the_types(store):
    items = make(store)
    items["t"].grow(3)
    items["m"].grow(1)
    assert items["t"].type == TableType("externref", 5, 9)
    assert items["m"].type == MemoryType(2, 3) and len(items["m"]) == 131072
    assert items["g"].type == GlobalType("externref", True)
    assert wasm2c.Memory(store, MemoryType(0)).type == MemoryType(0, None)
    assert wasm2c.Memory(store, MemoryType(0, 0)).read() == b""
    assert memoryview(wasm2c.Memory(store, MemoryType(0))).nbytes == 0
    assert len(wasm2c.Table(store, TableType("externref", 0, 0))) == 0
    with pytest.raises(ValueError):
        wasm2c.Table(store, TableType("externref", 0, 0)).grow(1)


@pytest.mark.parametrize("name, given", [
    ("t", TableType("externref", 1)), ("t", TableType("funcref", 2)), ("m", MemoryType(0)), ("m", MemoryType(1, None, True)),
    ("g", GlobalType("externref")), ("g", GlobalType("i32", True)), ("n", GlobalType("i64", True)),
])
def test_the_wrong_type_does_not_link(compile, store, name, given):
    cls = {TableType: wasm2c.Table, MemoryType: wasm2c.Memory, GlobalType: wasm2c.Global}[type(given)]
    values = [0] if isinstance(given, GlobalType) else []
    with pytest.raises(wasm2c.LinkError, match=f"import e.{name} "):
        compile(IMPORTS).instantiate(store, {"e": make(store, **{name: cls(store, given, *values)})})


def test_one_of_another_store_does_not_link(compile, store):
    with wasm2c.Store() as other:
        for name, item in make(other).items():
            with pytest.raises(wasm2c.LinkError, match=f"import e.{name} .*another store"):
                compile(IMPORTS).instantiate(store, {"e": make(store, **{name: item})})


@pytest.mark.parametrize("letter, value", [("i32", -1), ("i64", 2**63), ("f32", 0.5), ("f64", 0.1), ("v128", bytes(range(16))),
                                           ("externref", [1]), ("externref", None), ("funcref", None)])
def test_a_global_of_every_type(store, letter, value):
    item = wasm2c.Global(store, GlobalType(letter, mutable=True), value)
    assert item.value == (-2**63 if value == 2**63 else value)
    item.value = value
    assert item.type == GlobalType(letter, True)
    with pytest.raises(TypeError, match="immutable"):
        wasm2c.Global(store, GlobalType(letter), value).value = value


def test_a_global_without_a_value(store):
    assert wasm2c.Global(store, GlobalType("externref")).value is None
    with pytest.raises(TypeError, match=r"the global's value \(i32\): expected an int, not NoneType"):
        wasm2c.Global(store, GlobalType("i32"))
    with pytest.raises(OverflowError, match="the global's value"):
        wasm2c.Global(store, GlobalType("i32"), 2**32)


def test_a_reference_is_passed_as_itself(store):
    ref = VMExternRef(Thing())
    table = wasm2c.Table(store, TableType("externref", 3), ref)
    assert table.ref(2) == ref and table[2] is ref.value
    holder = wasm2c.Global(store, GlobalType("externref"), ref)
    assert holder.ref == ref


@pytest.mark.parametrize("make, error, message", [
    (lambda store: wasm2c.Table(), TypeError, "argument"),
    (lambda store: wasm2c.Table(store), TypeError, "type must be a TableType, not NoneType"),
    (lambda store: wasm2c.Table(7, TableType("externref", 1)), TypeError, "store must be a Store, not int"),
    (lambda store: wasm2c.Table(store, ("externref", 1, 2)), TypeError, "type must be a TableType, not tuple"),
    (lambda store: wasm2c.Table(store, TableType("i32", 1)), ValueError, "one of externref, funcref, not 'i32'"),
    (lambda store: wasm2c.Table(store, TableType(["externref"], 1)), ValueError, "one of externref, funcref"),
    (lambda store: wasm2c.Table(store, TableType("externref", 3, 2)), ValueError, "from 0 to .*, not 3 to 2"),
    (lambda store: wasm2c.Table(store, TableType("externref", -1)), ValueError, "sizes of a .* are from 0 to 4294967295"),
    (lambda store: wasm2c.Table(store, TableType("externref", 0, 2**32)), ValueError, "sizes of a .* are from 0"),
    (lambda store: wasm2c.Table(store, TableType("externref", "1")), TypeError, "integer"),
    (lambda store: wasm2c.Table(store, TableType("externref", 10_000_001)), MemoryError, "table_limit"),
    (lambda store: wasm2c.Table(store, TableType("funcref", 1), 7), TypeError, r"the element \(funcref\): expected a Func or None"),
    (lambda store: wasm2c.Memory(store, TableType("externref", 1)), TypeError, "type must be a MemoryType, not TableType"),
    (lambda store: wasm2c.Memory(store, MemoryType(65537)), ValueError, "sizes of a .* are from 0 to 65536"),
    (lambda store: wasm2c.Memory(store, MemoryType(2**48 + 1, None, True)), ValueError, "sizes of a .* are from 0"),
    (lambda store: wasm2c.Memory(store, MemoryType(2**48, None, True)), MemoryError, "no memory"),
    (lambda store: wasm2c.Global(store, MemoryType(1), 1), TypeError, "type must be a GlobalType, not MemoryType"),
    (lambda store: wasm2c.Global(store, GlobalType("anyref"), 1), ValueError, "one of i32, .*not 'anyref'"),
    (lambda store: wasm2c.Global(store, GlobalType([]), 1), ValueError, "one of i32"),
])
def test_what_cannot_be_made(store, make, error, message):
    with pytest.raises(error, match=message):
        make(store)
    store.gc()
    assert len(store.activations) == 0


def test_a_closed_store_has_none(store):
    store.close()
    for name, item in (("Table", TableType("externref", 1)), ("Memory", MemoryType(1)), ("Global", GlobalType("f32"))):
        with pytest.raises(ValueError, match="the store is already closed"):
            getattr(wasm2c, name)(store, item)


@pytest.mark.parametrize("make", [
    lambda store, index: wasm2c.Table(store, TableType("externref", index)),
    lambda store, index: wasm2c.Table(store, TableType("externref", 0, index)),
    lambda store, index: wasm2c.Memory(store, MemoryType(index)),
    lambda store, index: wasm2c.Global(store, GlobalType("i32"), index),
    lambda store, index: wasm2c.Memory(store, MemoryType(1)).write(b"x", index),
    lambda store, index: wasm2c.Memory(store, MemoryType(1)).read(0, index),
])
def test_the_store_is_closed_by_a_number(make):
    store = wasm2c.Store()
    with pytest.raises(ValueError, match="the store is already closed"):
        make(store, Calling(store.close))


def test_limits_are_of_all_together(compile):
    store = wasm2c.Store(memory_limit=3 * 65536, table_limit=10)
    memory = wasm2c.Memory(store, MemoryType(2))
    table = wasm2c.Table(store, TableType("externref", 6))
    for _ in range(2):
        with pytest.raises(MemoryError, match="memory_limit"):
            wasm2c.Memory(store, MemoryType(2))
        with pytest.raises(MemoryError, match="table_limit"):
            wasm2c.Table(store, TableType("funcref", 5))
        with pytest.raises(ValueError):
            memory.grow(2)
        with pytest.raises(ValueError):
            table.grow(5)
    with pytest.raises(MemoryError):
        compile("(module (memory 2))").instantiate(store)
    del memory, table
    wasm2c.Memory(store, MemoryType(3))
    wasm2c.Table(store, TableType("funcref", 10)).type
    exports = compile('(module (memory 1) (func (export "g") (param i32) (result i32) (memory.grow (local.get 0))))').instantiate(store)
    assert exports.exports.g(2) == 1 and exports.exports.g(1) == -1


def test_what_is_given_back_can_be_had_again(compile):
    store = wasm2c.Store(memory_limit=4 * 65536, table_limit=8)
    module = compile("(module (memory 3) (table 5 externref) (table 3 funcref))")
    for _ in range(10):
        instance = module.instantiate(store)
        with pytest.raises(MemoryError):
            module.instantiate(store)
        del instance


# --- read() and write()

@pytest.fixture(params=[False, True], ids=["32 bits", "64 bits"])
def memory(request, store):
    return wasm2c.Memory(store, MemoryType(1, 2, request.param))


def test_read_and_write(memory):
    assert memory.write(b"hello") == 5 and memory.read(0, 5) == b"hello"
    assert memory.write(bytearray(b"x"), 65535) == 1 and memory.read(65535) == b"x"
    assert memory.write(memoryview(b"abc")[1:], 1) == 2 and memory.read(0, 5) == b"hbclo"
    assert len(memory.read()) == 65536
    assert memory.read(65536) == memory.read(7, 7) == b"" and memory.write(b"", 65536) == 0
    assert memory.grow(1) == 1 and memory.write(b"far", 131069) == 3
    assert memory.read(131068, 131072) == b"\0far"


@pytest.mark.parametrize("start, stop", [(-1, 1), (0, 65537), (65537, None), (5, 4), (2**64, None), (0, 2**64), (-2**70, -2**69)])
def test_reading_out_of_bounds(memory, start, stop):
    with pytest.raises(IndexError, match="of a memory of 65536"):
        memory.read(start, stop)


@pytest.mark.parametrize("start", [-1, 65535, 2**64, 2**64 - 1])
def test_writing_out_of_bounds_writes_nothing(memory, start):
    with pytest.raises(IndexError, match="of a memory of 65536"):
        memory.write(b"ab", start)
    assert not any(memory.read())


def test_what_has_no_bytes_is_not_written(memory):
    for data, error in ((7, TypeError), ("text", TypeError), (None, TypeError), (memoryview(b"abcd")[::2], BufferError)):
        with pytest.raises(error):
            memory.write(data)


def test_a_memory_is_written_to_itself(store):
    memory = wasm2c.Memory(store, MemoryType(1))
    memory.write(bytes(range(100)))
    memory.write(memoryview(memory)[:100], 50)
    assert memory.read(50, 150) == bytes(range(100))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ is called from Python 3.12 on")
def test_a_buffer_that_closes_the_store(memory, store):
    class Closes:
        def __buffer__(self, flags):
            store.close()
            return memoryview(b"x")

    with pytest.raises(ValueError, match="the store is already closed"):
        memory.write(Closes())
