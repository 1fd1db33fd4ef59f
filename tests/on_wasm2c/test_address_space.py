"""Where there is no address space for more, that is an error that says so, and the next one works. Promise P1."""

from support import ADDRESS_SPACE, with_address_space

pytestmark = with_address_space


def test_compiling_with_any_amount(run_python):
    """Threads, tools and their own memory: each may be what there is none for."""
    out = run_python(ADDRESS_SPACE + """
import gc, externref
from externref import wasm2c
TEXT = '(module (func (export "f") (param externref) (result externref) (local.get 0)))'
def compile():
    with wasm2c.Store() as store:
        return wasm2c.compile(TEXT, cache=False).instantiate(store).exports.f(store) is store
for amount in (0, 64 << 10, 1 << 20, 8 << 20, 32 << 20):
    leave(amount)
    try: compile()
    except (MemoryError, wasm2c.CompileError): print("no", end=" ")
    else: print("yes", end=" ")
    leave_all()
    gc.collect()
    assert externref.stats().live_blocks == 0
assert compile()
""")
    assert out.startswith("no no ")


def test_instances_and_growth(run_python):
    """Of memories, whose room is reserved at once, and of tables; what there was is there."""
    run_python(ADDRESS_SPACE + """
import gc, externref
from externref import wasm2c
from externref.wasm2c import MemoryType, TableType
module = wasm2c.compile('''(module (memory (export "m") 1) (table (export "t") 1 externref)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow_table") (param externref i32) (result i32) (table.grow (local.get 0) (local.get 1))))''')
large = wasm2c.compile('(module (memory 16384))')
store = wasm2c.Store(table_limit=100_000_000)
value = object()
e = module.instantiate(store).exports
e.t[0] = value
e.m.write(b"x")
before = externref.stats(), sys.getrefcount(value)
for _ in range(2):
    leave(64 << 20)
    assert fails(lambda: large.instantiate(store))
    assert fails(lambda: wasm2c.Memory(store, MemoryType(16384)))
    assert fails(lambda: wasm2c.Table(store, TableType("externref", 50_000_000), value))
    assert e.grow(16384) == -1 or len(e.m) > 1 << 30
    assert e.grow_table(value, 50_000_000) == -1
    assert e.t[0] is value and e.m.read(0, 1) == b"x" and len(e.t) == 1
    leave_all()
    gc.collect()
    store.gc()
    assert (externref.stats(), sys.getrefcount(value)) == before
large.instantiate(store)
assert e.grow_table(value, 1000) == 1 and e.t[1000] is value
store.close()
""")
