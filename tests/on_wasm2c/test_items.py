"""Tables, globals and memories, where it is wasm2c's matter: on_both has the rest."""

import pytest

from externref import VMExternRef, wasm2c


def test_a_table_reads_and_writes(references):
    exports = references()
    t, a, b = exports.t, object(), object()
    assert len(t) == 8 and list(t) == [None] * 8
    t[0] = a
    exports.save(1, b)
    assert t[0] is a and exports.load(0) is a and t[1] is b and exports.load(1) is b
    assert t.ref(0).value is a and t.ref(2) is None
    assert t.type == wasm2c.TableType("externref", 8, 64)


def test_a_table_grows_to_its_maximum(references):
    t, thing = references().t, object()
    assert t.grow(2, thing) == 8
    assert len(t) == 10 and t[9] is thing
    assert t.grow(0) == 10
    with pytest.raises(ValueError, match="cannot grow by 60"):
        t.grow(60, thing)
    with pytest.raises(ValueError):
        t.grow(-1)
    assert t.grow(54) == 10 and t[63] is None


def test_a_table_is_filled(references):
    t, thing = references().t, object()
    t.fill(2, thing, 3)
    assert list(t) == [None] * 2 + [thing] * 3 + [None] * 3
    for first, count in ((7, 2), (-1, 1), (0, -1), (9, 0)):
        with pytest.raises(IndexError):
            t.fill(first, None, count)
    assert list(t).count(thing) == 3


def test_wasm_operations_on_tables(references):
    exports, a = references(), object()
    assert exports.grow(a, 4) == 8 and exports.size() == 12 and exports.t[11] is a
    exports.fill(0, a, 12)
    exports.copy(2, 0, 4)
    assert list(exports.u) == [None, None, a, a, a, a, None, None]
    exports.init(0, 0, 2)
    assert exports.t[0] is None and exports.t[2] is a
    exports.elem_drop()
    with pytest.raises(wasm2c.Trap):
        exports.init(0, 0, 1)
    assert exports.grow(None, 1000) == -1


def test_a_global_reads_and_writes(references, run):
    exports, a = references(), object()
    exports.g.value = a
    assert exports.g.value is a and exports.global_get() is a and exports.g.ref.value is a
    exports.global_set(None)
    assert exports.g.value is None and exports.g.ref is None
    numbers = run("""(module (global (export "i") (mut i32) (i32.const -5)) (global (export "j") i64 (i64.const 7))
      (global (export "f") (mut f32) (f32.const 1.5)) (global (export "d") (mut f64) (f64.const 2.5))
      (global (export "r") (mut funcref) (ref.null func)) (func (export "get") (result i32) (global.get 0)))""")
    assert [numbers[name].value for name in "ijfdr"] == [-5, 7, 1.5, 2.5, None]
    numbers.i.value = 9
    numbers.r.value = numbers["get"]
    assert numbers["get"]() == 9 and numbers.r.value() == 9
    with pytest.raises(TypeError, match="immutable"):
        numbers.j.value = 1
    with pytest.raises(OverflowError, match="the global's value"):
        numbers.i.value = 2**40
    with pytest.raises(TypeError):
        _ = numbers.i.ref
    assert numbers.j.type == wasm2c.GlobalType("i64", False)


def test_a_funcref_table(run):
    exports = run("""(module
      (import "env" "f" (func $f (param i32) (result i32)))
      (table (export "t") 3 funcref)
      (func $double (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
      (elem (i32.const 0) func $double $f)
      (func (export "call") (param i32 i32) (result i32)
        (call_indirect (param i32) (result i32) (local.get 1) (local.get 0))))""", {"env": {"f": lambda n: n + 100}})
    t = exports.t
    assert t[0](4) == 8 and t[1](4) == 104 and t[2] is None
    assert exports.call(0, 5) == 10 and exports.call(1, 5) == 105
    t[2] = exports.double
    assert exports.call(2, 6) == 12
    t.grow(1, t[1])
    assert exports.call(3, 1) == 101
    t.fill(0, None, 4)
    with pytest.raises(wasm2c.Trap, match="call_indirect"):
        exports.call(0, 1)
    with pytest.raises(TypeError, match=r"the element \(funcref\): expected a Func or None"):
        t[0] = 3
    with pytest.raises(TypeError, match="funcref"):
        t.ref(0)


def test_a_memory_is_a_writable_buffer(run):
    exports = run("""(module (memory (export "m") 1 3)
      (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))""")
    memory = exports.m
    with memoryview(memory) as view:
        assert len(view) == len(memory) == 65536
        view[5] = 77
        assert exports.load(5) == 77
        assert memory.grow(2) == 1      # and the view stays
        assert view[5] == 77 and len(view) == 65536
    assert len(memory) == 3 * 65536 and bytes(memory)[5] == 77
    assert memory.type == wasm2c.MemoryType(3, 3)
    with pytest.raises(ValueError, match="cannot grow by 1"):
        memory.grow(1)


def test_a_memory_in_numpy(run):
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    memory = run('(module (memory (export "m") 1))').m
    array = numpy.frombuffer(memory, dtype=numpy.uint32)
    array[0] = 0x01020304
    assert bytes(memory)[:4] == b"\4\3\2\1"


def test_a_buffer_outlives_the_store(compile):
    store = wasm2c.Store()
    view = memoryview(compile('(module (memory (export "m") 1))').instantiate(store).exports.m)
    store.close()
    view[0] = 1
    assert view[0] == 1


def test_a_64_bit_memory_has_no_buffer_but_works(run):
    exports = run('(module (memory (export "m") i64 1 2) (func (export "f") (result i32) (i32.load (i64.const 4))))')
    assert exports.f() == 0 and len(exports.m) == 65536
    with pytest.raises(BufferError):
        memoryview(exports.m)


def test_odd_names_and_one_item_under_two_names(run):
    exports = run("""(module (func $f (export "a b-ü\\00") (export "") (export "int") (result i32) (i32.const 3))
      (table $t (export "keys") (export "1") 1 externref) (memory (export "main") 1) (global (export "errno") i32 (i32.const 1)))""")
    assert exports["a b-ü\0"]() == exports[""]() == exports["int"]() == 3
    assert exports[""] is exports["int"]
    assert exports["1"] is exports["keys"]      # a mapping's own method stays its method as an attribute
    assert exports["errno"].value == 1 and len(exports["main"]) == 65536


def test_two_instances_share_nothing(references):
    one, two = references(), references()
    one.t[0] = ref = VMExternRef(1)
    assert two.t[0] is None and one.t.ref(0) == ref
