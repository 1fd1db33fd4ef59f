"""Values in and out, where it is wasm2c's matter: on_both/test_functions.py has the rest. Promise P6."""

import pytest

from externref import MovedError, VMExternRef, wasm2c
from support import EqualToAll

IDENTITIES = """
(module
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "all") (param i32 i64 f32 f64 externref funcref) (result funcref externref f64 f32 i64 i32)
    (local.get 5) (local.get 4) (local.get 3) (local.get 2) (local.get 1) (local.get 0))
  (func (export "none"))
)
"""


def test_several_results_are_a_tuple_in_order(run):
    exports = run(IDENTITIES)
    thing = object()
    function, *rest = exports.all(1, 2, 0.5, 0.25, thing, exports.i32)
    assert rest == [thing, 0.25, 0.5, 2, 1]
    assert function(7) == 7
    assert exports.all(0, 0, 0, 0, None, None)[:2] == (None, None)
    assert exports.none() is None


def test_null_is_none(references):
    exports = references()
    assert exports["id"](None) is None and exports.null() is None
    assert exports.is_null(None) == 1 and exports.is_null(False) == 0
    assert exports["id"].refs(None) is None


def test_select_and_swap(references):
    exports = references()
    a, b = object(), object()
    assert exports.select(a, b, 1) is a and exports.select(a, b, 0) is b
    assert exports.swap(a, b) == (b, a)
    assert [ref.value for ref in exports.swap.refs(a, b)] == [b, a]


def test_a_bad_argument_leaves_no_reference_behind(run, make_payload, store):
    dropped = []
    exports = run(IDENTITIES)
    with pytest.raises(TypeError, match="argument 6"):
        exports.all(1, 2, 3, 4, make_payload(dropped), 5)
    store.gc()
    assert len(dropped) == 1
    ref = VMExternRef(1)
    ref.drop()
    two = run('(module (func (export "f") (param externref externref)))').f
    with pytest.raises(MovedError):
        two(make_payload(dropped), ref)
    assert len(dropped) == 2        # at once: the table never had it


def test_funcref_values(run, compile):
    exports = run("""
    (module
      (func $inner (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
      (func (export "give") (result funcref) (ref.func $inner))
      (func (export "pass") (param funcref) (result funcref) (local.get 0))
      (elem declare func $inner))
    """)
    inner = exports.give()      # not exported, and called
    assert inner(41) == 42 and inner.type == (("i32",), ("i32",))
    assert exports["pass"](inner)(1) == 2
    assert exports["pass"](None) is None
    with pytest.raises(TypeError, match=r"pass\(\) argument 1 \(funcref\): expected a Func or None, not int"):
        exports["pass"](1)
    with wasm2c.Store() as other, pytest.raises(ValueError, match="another store"):
        _ = compile(IDENTITIES).instantiate(other).exports.i32.instance.exports      # of the other store, usable there
        exports["pass"](compile(IDENTITIES).instantiate(other).exports.i32)


def test_many_parameters_and_results(run):
    types = " ".join(["externref i64"] * 40)
    body = " ".join(f"(local.get {i})" for i in range(80))
    f = run(f'(module (func (export "f") (param {types}) (result {types}) {body}))').f
    values = [value for i in range(40) for value in (object(), i)]
    assert f(*values) == tuple(values)


@pytest.mark.parametrize("count", [511, 512, 513, 600])
def test_more_references_at_once_than_the_bump_chunk_holds(run, request, count):
    if count != 512:
        request.getfixturevalue("unoptimized")
    types, gets = "externref " * count, "".join(f"(local.get {i})" for i in reversed(range(count)))
    reverse = run(f'(module (func (export "reverse") (param {types}) (result {types}) {gets}))')["reverse"]
    values = [[i] for i in range(count)]
    for _ in range(3):
        assert all(out is value for out, value in zip(reverse(*values), reversed(values), strict=True))


@pytest.mark.parametrize("cls", [wasm2c.Func, wasm2c.Table, wasm2c.Global, wasm2c.Memory])
def test_nothing_is_made_by_hand(cls):
    for make in (cls, lambda: cls.__new__(cls), lambda: cls(object()), lambda: cls.__new__(cls, EqualToAll()),
                 lambda: cls(EqualToAll()), lambda: cls(EqualToAll(), 1), lambda: object.__new__(cls)):
        with pytest.raises(TypeError, match="exports|not safe|argument|store must be a Store"):
            make()


# --- v128

V128 = """(module (type $unused (func (param v128)))
  (import "e" "swap" (func $swap (param v128 i32 v128) (result v128 externref v128)))
  (global $g (export "g") (mut v128) (v128.const i32x4 1 2 3 4))
  (global (export "fixed") v128 (v128.const i32x4 5 6 7 8))
  (func (export "id") (param v128) (result v128) (local.get 0))
  (func (export "add") (param v128 v128) (result v128) (i32x4.add (local.get 0) (local.get 1)))
  (func (export "swap") (param v128 i32 v128) (result v128 externref v128)
    (call $swap (local.get 0) (local.get 1) (local.get 2)))
  (func $f (export "now") (result v128) (global.get $g))
  (table (export "t") 1 funcref) (elem (i32.const 0) $f))"""


def lanes(*values):
    return b"".join(value.to_bytes(4, "little") for value in values)


def test_v128_passes_as_sixteen_bytes(run):
    exports = run(V128, {"e": {"swap": lambda a, n, b: (b, [n], a)}})
    a, b = lanes(1, 2, 3, 4), bytes(range(16))
    assert exports.id(b) == b and type(exports.id(b)) is bytes
    assert exports.add(a, lanes(10, 20, 30, 2**32 - 1)) == lanes(11, 22, 33, 3)
    assert exports.swap(a, 7, b) == (b, [7], a)
    assert exports.g.value == a and exports.fixed.value == lanes(5, 6, 7, 8)
    exports.g.value = b
    assert exports.now() == b and exports.t[0]() == b
    assert exports.g.type.value == "v128" and exports.id.type == wasm2c.FuncType(("v128",), ("v128",))


@pytest.mark.parametrize(("value", "error"), [
    (b"", ValueError), (bytes(15), ValueError), (bytes(17), ValueError), (bytearray(16), TypeError), (0, TypeError),
    (None, TypeError), ("0" * 16, TypeError),
])
def test_v128_refuses(run, value, error):
    exports = run(V128, {"e": {"swap": lambda a, n, b: (a, None, value)}})
    with pytest.raises(error, match=r"id\(\) argument 1.*16 bytes"):
        exports.id(value)
    with pytest.raises(error, match=r"e.swap\(\) result 3.*16 bytes"):
        exports.swap(bytes(16), 1, bytes(16))
    with pytest.raises(error, match="16 bytes"):
        exports.g.value = value


def test_a_v128_global_given_as_bytes(compile, store):
    module = compile('(module (import "e" "g" (global v128)) (export "g" (global 0)))')
    assert module.instantiate(store, {"e": {"g": bytes(range(16))}}).exports.g.value == bytes(range(16))
    with pytest.raises(wasm2c.LinkError, match="16 bytes"):
        module.instantiate(store, {"e": {"g": bytes(3)}})
