"""Nothing is left of a million objects, and memory stays flat. Each in its own process."""

import pytest

PRELUDE = """
import gc, wasmtime, externref, externref.wasmtime as ew
from wasmtime import FuncType, ValType
alive = 0
class Counted:
    def __init__(self):
        global alive
        alive += 1
    def __del__(self):
        global alive
        alive -= 1
def resident():
    with open("/proc/self/statm") as file: return int(file.read().split()[1]) * 4096
store = wasmtime.Store()
host = ew.func(store, FuncType([ValType.externref()], [ValType.externref()]), lambda value: value)
def fail(): raise ValueError
failing = ew.func(store, FuncType([], []), fail)
module = wasmtime.Module(store.engine, '''(module
    (import "" "h" (func $h (param externref) (result externref))) (import "" "f" (func $f))
    (table (export "t") 16 externref) (global (export "g") (mut externref) (ref.null extern))
    (func (export "id") (param externref) (result externref) local.get 0)
    (func (export "three") (param externref externref externref) (result externref externref externref)
        local.get 0 local.get 1 local.get 2)
    (func (export "through") (param externref) (result externref) (call $h (local.get 0)))
    (func (export "fail") call $f) (func (export "trap") (param externref) unreachable))''')
exports = wasmtime.Instance(store, module, [host, failing]).exports(store)
t, g, identity, three, through, failing, trap = (
    ew.bind(store, exports[name]) for name in ("t", "g", "id", "three", "through", "fail", "trap"))
def measure(step, count):
    for index in range(count // 10): step(index)
    store.gc(); externref.drain(); gc.collect()
    before = resident()
    for index in range(count): step(index)
    store.gc(); externref.drain(); gc.collect()
    assert alive == 0, alive
    assert externref.stats().live_blocks == 2, externref.stats()     # the two host functions
    print((resident() - before) / 1e6)
"""

STEPS = {
    "an object in and out": ("identity(Counted())", 1_000_000),
    "three at once": ("three(Counted(), Counted(), Counted())", 300_000),
    "as a reference": ("identity.refs(Counted())", 300_000),
    "through a host function": ("through(Counted())", 300_000),
    "into a table": ("t[index % 16] = Counted() if index % 16 else None; t.fill(0, None, 16)", 100_000),
    "into a global": ("g.value = Counted(); g.value = None", 200_000),
    "an argument that does not fit": ("refuse(three, Counted(), Counted())", 100_000),
    "an exception": ("refuse(failing)", 50_000),
    "a trap": ("refuse(trap, Counted())", 20_000),
    "binding": ("ew.bind(store, exports['id'])", 5_000),
}


@pytest.mark.parametrize("case", STEPS)
def test_memory_is_flat_and_nothing_is_left(run_python, case):
    code, count = STEPS[case]
    growth = float(run_python(PRELUDE + f"""
def refuse(function, *args):
    try: function(*args)
    except (TypeError, ValueError, wasmtime.Trap): pass
    else: raise AssertionError
def step(index): {code}
measure(step, {count})
""", timeout=600))
    assert growth < 4, f"{growth} MB for {count} times"


def test_stores_leave_nothing(run_python):
    growth = float(run_python(PRELUDE + """
t = g = identity = three = through = failing = trap = exports = host = None
store.close()
engine = wasmtime.Engine()
def step():
    with wasmtime.Store(engine) as own:     # the callable refers to it: closing ends that
        held = ew.func(own, FuncType([ValType.externref()], []), lambda value: own and None)
        ew.bind(own, held)(Counted())
for _ in range(200): step()
externref.drain(); gc.collect()
before = resident()
for _ in range(2000): step()
externref.drain(); gc.collect()
assert alive == 0 and externref.stats().live_blocks == 0, (alive, externref.stats())
print((resident() - before) / 1e6)
""", timeout=600))
    assert growth < 4
