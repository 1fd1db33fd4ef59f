"""Imports: Python's functions and values, exports of other instances, and what does not link."""

import traceback

import pytest

from externref import wasm2c

EVERYTHING = """(module
  (import "env" "f" (func $f (param i32 externref) (result externref i64)))
  (import "env" "t" (table $t 2 8 externref))
  (import "env" "g" (global $g (mut externref)))
  (import "env" "c" (global $c i32))
  (import "env" "r" (global $r externref))
  (import "env" "m" (memory 1 4))
  (func (export "f") (param i32 externref) (result externref i64) (call $f (local.get 0) (local.get 1)))
  (func (export "t") (param i32) (result externref) (table.get $t (local.get 0)))
  (func (export "g") (param externref) (global.set $g (local.get 0)))
  (func (export "c") (result i32) (global.get $c))
  (func (export "r") (result externref) (global.get $r))
  (func (export "m") (result i32) (i32.load8_u (i32.const 9)))
)"""

PROVIDER = """(module
  (func (export "f") (param i32 externref) (result externref i64) (local.get 1) (i64.extend_i32_s (local.get 0)))
  (table (export "t") 2 8 externref) (global (export "g") (mut externref) (ref.null extern))
  (global (export "c") i32 (i32.const 11)) (global (export "r") externref (ref.null extern)) (memory (export "m") 1 4)
)"""


def test_everything_from_another_instance(run):
    provider = run(PROVIDER)
    exports = run(EVERYTHING, {"env": provider})
    a = object()
    provider.t[1] = a
    with memoryview(provider.m) as view:
        view[9] = 5
    exports.g(a)
    assert exports.f(3, a) == (a, 3) and exports.t(1) is a and provider.g.value is a
    assert exports.c() == 11 and exports.r() is None and exports.m() == 5


def test_functions_and_constant_globals_from_python(run, store, make_payload):
    dropped = []
    exports = run(EVERYTHING, {"env": dict(run(PROVIDER)) | {
        "f": lambda number, ref: [ref, number + 1], "c": -3, "r": make_payload(dropped, "r")}})
    a = object()
    assert exports.f(3, a) == (a, 4) and exports.c() == -3
    store.gc()
    assert exports.r().name == "r" and dropped == []


def test_a_trap_in_an_imported_instance_comes_out(run):
    provider = run('(module (func (export "f") unreachable) (func $r (export "r") (call $r)))')
    exports = run('(module (import "p" "f" (func $f)) (import "p" "r" (func $r)) '
                  '(func (export "f") (call $f)) (func (export "r") (call $r)))', {"p": provider})
    for _ in range(3):
        with pytest.raises(wasm2c.Trap, match="Unreachable"):
            exports.f()
        with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
            exports.r()


def test_an_instance_may_stand_for_a_module_of_imports(compile, store):
    provider = compile(PROVIDER).instantiate(store)
    assert compile(EVERYTHING).instantiate(store, {"env": provider}).exports.c() == 11


@pytest.mark.parametrize("name, value, reason", [
    ("f", 3, "int is not callable"), ("t", 3, "it is no Table but int"), ("g", None, "it is no Global but NoneType"),
    ("c", "x", "expected an int"), ("c", 2**33, "does not fit"), ("m", b"", "it is no Memory but bytes"),
])
def test_a_wrong_import_is_named(run, name, value, reason):
    with pytest.raises(wasm2c.LinkError, match=rf"import env\.{name} .*{reason}"):
        run(EVERYTHING, {"env": dict(run(PROVIDER)) | {name: value}})


@pytest.mark.parametrize("name", ["f", "t", "g", "c", "r", "m"])
def test_a_missing_import_is_named(run, name):
    given = dict(run(PROVIDER))
    del given[name]
    with pytest.raises(wasm2c.LinkError, match=rf"import env\.{name} .* is missing"):
        run(EVERYTHING, {"env": given})
    with pytest.raises(wasm2c.LinkError, match="is missing"):
        run(EVERYTHING)


@pytest.mark.parametrize("text, name", [
    ('(func (export "x") (param i32))', "f"), ('(table (export "x") 1 8 externref)', "t"),
    ('(table (export "x") 2 externref)', "t"), ('(table (export "x") 2 8 funcref)', "t"),
    ('(table (export "x") 2 9 externref)', "t"), ('(global (export "x") externref (ref.null extern))', "g"),
    ('(global (export "x") (mut i64) (i64.const 1))', "g"), ('(global (export "x") i64 (i64.const 1))', "c"),
    ('(memory (export "x") 0 4)', "m"), ('(memory (export "x") 1)', "m"),
])
def test_an_export_of_another_type_does_not_link(run, text, name):
    wrong = run(f"(module {text})").x
    with pytest.raises(wasm2c.LinkError, match=rf"import env\.{name} .*: it is "):
        run(EVERYTHING, {"env": dict(run(PROVIDER)) | {name: wrong}})


@pytest.mark.parametrize("name", ["f", "t", "g", "m"])
def test_an_export_of_another_store_does_not_link(run, compile, name):
    with wasm2c.Store() as other:
        wrong = compile(PROVIDER).instantiate(other).exports[name]
        with pytest.raises(wasm2c.LinkError, match="another store"):
            run(EVERYTHING, {"env": dict(run(PROVIDER)) | {name: wrong}})


class Failure(Exception):
    pass


def test_a_python_exception_comes_out_unchanged(references, store):
    failure = Failure("as it is")

    def call(ref, number):
        raise failure

    exports = references(call)
    for _ in range(3):
        with pytest.raises(Failure) as caught:
            exports.hold(1, 2, 3)
        assert caught.value is failure
    assert [frame.name for frame in traceback.extract_tb(failure.__traceback__)][-1] == "call"
    assert exports.id(5) == 5


@pytest.mark.parametrize("result, error", [
    (None, TypeError), (1, TypeError), ((1,), TypeError), ((1, 2, 3), TypeError), ((1, "x"), TypeError), ((1, 2**65), OverflowError),
])
def test_a_wrong_result_of_an_import_is_an_error(run, result, error):
    exports = run(EVERYTHING, {"env": dict(run(PROVIDER)) | {"f": lambda *args: result}})
    with pytest.raises(error):
        exports.f(1, None)


def test_the_start_function_runs_and_its_failure_is_the_instantiations(run, store, make_payload):
    text = '(module (import "e" "f" (func $f (result externref))) (table $t 1 externref) ' \
        "(func $s (table.set $t (i32.const 0) (call $f))) (start $s))"
    called, dropped = [], []
    run(text, {"e": {"f": lambda: called.append(1)}})
    assert called == [1]
    with pytest.raises(ZeroDivisionError):
        run(text, {"e": {"f": lambda: 1 / 0}})
    with pytest.raises(wasm2c.Trap):
        run('(module (func $s unreachable) (start $s))')
    run(text, {"e": {"f": lambda: make_payload(dropped)}})
    store.gc()
    assert dropped == [None]        # with its instance, which nobody kept


def test_reexported_imports(run):
    exports = run("""(module (import "e" "f" (func $f (param i32) (result i32))) (import "e" "t" (table 1 externref))
      (export "f" (func $f)) (export "t" (table 0)))""",
                  {"e": {"f": lambda n: n * 3, "t": run('(module (table (export "t") 1 externref))').t}})
    assert exports.f(4) == 12
    exports.t[0] = "x"
    assert exports.t[0] == "x"


def test_tail_calls_through_imports_and_tables(run):
    exports = run("""(module
      (import "e" "f" (func $f (param externref) (result externref)))
      (type $u (func (param externref) (result externref)))
      (table $t (export "t") 2 funcref)
      (elem (i32.const 0) func $f)
      (func (export "direct") (param externref) (result externref) (return_call $f (local.get 0)))
      (func $id (export "id") (param externref) (result externref) (local.get 0))
      (func (export "indirect") (param externref i32) (result externref)
        (return_call_indirect $t (type $u) (local.get 0) (local.get 1))))""", {"e": {"f": lambda ref: [ref]}})
    exports.t[1] = exports.id
    assert exports.direct(1) == [1] and exports.indirect(2, 0) == [2] and exports.indirect(3, 1) == 3
