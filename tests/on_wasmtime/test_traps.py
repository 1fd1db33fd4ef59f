"""Traps, wasmtime's own with their texts, exhaustion, and nested calls. Promise P10."""

import sys

import pytest
import wasmtime

import externref.wasmtime as ew

TRAPS = """(module
    (memory 1)
    (table 1 funcref)
    (func (export "unreachable") unreachable)
    (func (export "divide") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
    (func (export "load") (result i32) (i32.load (i32.const -1)))
    (func (export "indirect") (call_indirect (i32.const 0)))
    (func $recurse (export "recurse") call $recurse))"""


@pytest.mark.parametrize("name", ["unreachable", "divide", "load", "indirect", "recurse"])
def test_a_trap_is_wasmtimes_own_with_the_same_text(instantiate, store, name):
    module = instantiate(TRAPS)
    with pytest.raises(wasmtime.Trap) as theirs:
        module.raw[name](store)
    with pytest.raises(wasmtime.Trap) as ours:
        getattr(module, name)()
    assert type(ours.value) is type(theirs.value)
    assert ours.value.trap_code == theirs.value.trap_code
    assert [frame.func_index for frame in ours.value.frames] == [frame.func_index for frame in theirs.value.frames]
    # The number of frames that fit on the stack may differ, so may the end of that text.
    assert str(ours.value)[:80] == str(theirs.value)[:80]
    assert name == "recurse" or str(ours.value) == str(theirs.value)


def test_out_of_fuel_is_a_trap_with_the_same_text(instantiate):
    config = wasmtime.Config()
    config.consume_fuel = True
    with wasmtime.Store(wasmtime.Engine(config)) as store:
        store.set_fuel(100)
        module = instantiate('(module (func (export "spin") (loop br 0)))', store=store)
        with pytest.raises(wasmtime.Trap) as ours:
            module.spin()
        with pytest.raises(wasmtime.Trap) as theirs:
            module.raw["spin"](store)
        assert ours.value.trap_code == theirs.value.trap_code == wasmtime.TrapCode.OUT_OF_FUEL


def test_proc_exit_is_an_exit_trap(store):
    linker = wasmtime.Linker(store.engine)
    linker.define_wasi()
    store.set_wasi(wasmtime.WasiConfig())
    module = wasmtime.Module(store.engine, """(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "leave") (call $exit (i32.const 3))))""")
    leave = linker.instantiate(store, module).exports(store)["leave"]
    with pytest.raises(wasmtime.ExitTrap) as theirs:
        leave(store)
    with pytest.raises(wasmtime.ExitTrap) as ours:
        ew.bind(store, leave)()
    assert ours.value.code == theirs.value.code == 3
    assert str(ours.value) == str(theirs.value)


def test_arguments_of_a_trapping_call_are_dropped(instantiate, collect, make_payload):
    module = instantiate('(module (func (export "f") (param externref) unreachable))')
    dropped = []
    with pytest.raises(wasmtime.Trap):
        module.f(make_payload(dropped))
    collect()
    assert len(dropped) == 1


def test_calls_nest(relay, store):
    depth = []

    def down(level):
        depth.append(level)
        return call(level - 1) + 1 if level else 0

    call = relay("i32", "i32", down)
    assert call(20) == 20 and depth == list(range(20, -1, -1))


def test_endless_recursion_ends(relay):
    call = relay("", "", lambda: call())
    with pytest.raises((wasmtime.Trap, RecursionError)):
        call()
    assert sys.getrecursionlimit() > 0
