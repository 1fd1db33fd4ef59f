"""Memory stays flat: a million objects through a table, a hundred thousand collections."""

import sys

import pytest

PRELUDE = """
import externref
from externref import wasm2c

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

module = wasm2c.compile('''(module
  (table $t (export "t") 16 externref)
  (func (export "id") (param externref) (result externref) (local.get 0))
  (func (export "put") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
  (func (export "take") (param i32) (result externref)
    (table.get $t (local.get 0)) (table.set $t (local.get 0) (ref.null extern))))''')

class Payload:
    live = 0
    def __init__(self): Payload.live += 1
    def __del__(self): Payload.live -= 1

def flat(work, count):
    work(count // 10)
    grown = []      # an arena of CPython's comes once, and has 1 MiB; a leak grows each time
    while not grown or grown[-1] >= 1 << 20:
        assert len(grown) < 3, grown
        before = resident()
        work(count)
        grown.append(resident() - before)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_a_million_objects_through_a_table_and_back(run_python):
    run_python(PRELUDE + """
with wasm2c.Store() as store:
    exports = module.instantiate(store).exports
    put, take = exports.put, exports.take
    def work(count):
        for i in range(count):
            payload = Payload()
            put(i % 16, payload)
            assert take(i % 16) is payload
    flat(work, 1_000_000)
    store.gc()
    assert Payload.live == 0, Payload.live
    assert externref.stats().live_blocks == 0
""")


def test_a_hundred_thousand_collections(run_python):
    run_python(PRELUDE + """
with wasm2c.Store() as store:
    exports = module.instantiate(store).exports
    exports.t[0] = kept = object()
    def work(count):
        for _ in range(count):
            exports.id(Payload())
            assert store.gc() == 1
    flat(work, 100_000)
    assert Payload.live == 0 and exports.t[0] is kept
""")
