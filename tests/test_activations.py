"""VMExternRefActivationsTable by itself: insertion, roots, sweeps, what compiled code sees of it."""

import ctypes
import gc
import os
import subprocess
import time
import weakref

import pytest

import externref
from externref import MovedError, VMExternRef, abi
from externref._activations import VMExternRefActivationsTable
from support import LET_GO

WORD = ctypes.sizeof(ctypes.c_void_p)
CHUNK = 512


class Thing:
    pass


@pytest.fixture
def table():
    table = VMExternRefActivationsTable()
    yield table
    table.gc()


def test_the_chunk_is_made_when_first_needed(table):
    assert table.bump_capacity_remaining() == 0 and len(table) == 0
    assert table.try_insert(VMExternRef(1))
    assert table.bump_capacity_remaining() == CHUNK - 1 and len(table) == 1


def test_try_insert_moves_unless_the_chunk_is_full(table):
    for i in range(CHUNK):
        ref = VMExternRef(i)
        assert table.try_insert(ref) and ref.moved
    ref = VMExternRef("left")
    assert not table.try_insert(ref)
    assert ref.value == "left" and ref.strong_count == 1 and len(table) == CHUNK
    table.insert_without_gc(ref)
    assert ref.moved and len(table) == CHUNK + 1 and table.collections == 0


def test_insert_with_gc_clones_and_collects_when_full(table):
    first, kept = VMExternRef(1), VMExternRef(2)
    table.insert_with_gc(first)
    assert first.strong_count == 2
    root = kept.as_raw()
    table.insert_with_gc(kept)
    for i in range(CHUNK - 2):
        table.insert_without_gc(VMExternRef(i))
    assert table.collections == 0
    last = VMExternRef(3)
    table.insert_with_gc(last, [root])
    assert table.collections == 1 and len(table) == 2
    assert (first.strong_count, kept.strong_count, last.strong_count) == (1, 2, 2)


def test_a_collection_keeps_exactly_the_roots(table, make_payload):
    dropped, roots = [], []
    for i in range(3000):
        ref = VMExternRef(make_payload(dropped, i))
        if i % 7 == 0:
            roots.append(ref.as_raw())
        table.insert_without_gc(ref)
    assert table.gc(roots) == 3000 - len(roots)
    assert sorted(dropped) == [i for i in range(3000) if i % 7]
    assert table.gc(roots) == 0 and len(table) == len(roots)
    assert table.gc() == len(roots) and len(dropped) == 3000


def test_roots_in_memory(table):
    refs = [VMExternRef(i) for i in range(10)]
    memory = (ctypes.c_size_t * 12)(0, *(ref.as_raw() for ref in refs), 12345)
    for ref in refs:
        table.insert_with_gc(ref)
    address = ctypes.addressof(memory)
    assert table.gc(ranges=[(address, ctypes.sizeof(memory))]) == 0
    assert table.gc(ranges=[(address + 1, 2 * WORD), (address + 4 * WORD, 3 * WORD - 1)]) == 7     # whole, aligned words
    assert [ref.strong_count for ref in refs] == [2, 1, 1, 2, 2, 1, 1, 1, 1, 1]
    assert table.gc(ranges=[(address, 0)]) == 3


@pytest.mark.parametrize("roots", [[0], [1], [8], [2**63], [3 * 8 + 1]])
def test_roots_that_are_no_entry_name_nothing(table, roots):
    table.insert_without_gc(VMExternRef(1))
    assert table.gc(roots) == 1


def test_precise_stack_roots_and_sweep(table):
    kept, gone = VMExternRef(1), VMExternRef(2)
    table.insert_with_gc(kept)
    table.insert_with_gc(gone)
    assert table.insert_precise_stack_root(kept.as_raw()) and not table.insert_precise_stack_root(8)
    assert table.sweep() == 1
    assert (kept.strong_count, gone.strong_count) == (2, 1)
    assert table.sweep() == 1       # marks last for one sweep: the map of before is not the map of now
    assert kept.strong_count == 1


def test_one_reference_many_times(table):
    """wasmtime #13037: a set swallowed the second count."""
    ref = VMExternRef(Thing())
    for _ in range(3 * CHUNK):
        table.insert_with_gc(ref, [ref.as_raw()])
    assert len(table) == CHUNK + 1
    table.gc([ref.as_raw()])
    assert ref.strong_count == 2 and len(table) == 1
    table.gc()
    assert ref.strong_count == 1


@pytest.mark.parametrize("act", [
    lambda t, r: t.try_insert(r), lambda t, r: t.insert_without_gc(r), lambda t, r: t.insert_with_gc(r),
])
def test_misuse(table, act):
    with pytest.raises(TypeError, match="expected a VMExternRef, not int"):
        act(table, 1)
    spent = VMExternRef(1)
    spent.drop()
    with pytest.raises(MovedError):
        act(table, spent)
    assert len(table) == 0


@pytest.mark.parametrize("roots, ranges, error", [
    ([1.5], [], TypeError), ([2**64], [], OverflowError), ([-1], [], OverflowError), ([], [1], TypeError),
    ([], [(8, -1)], OverflowError), ([], [(2**64 - 8, 16)], OverflowError), (None, [], TypeError),
])
def test_bad_roots_drop_nothing(table, roots, ranges, error):
    table.insert_without_gc(VMExternRef(1))
    with pytest.raises(error):
        table.gc(roots, ranges)
    assert len(table) == 1 and table.gc() == 1


def test_compiled_code_inserts_through_next_and_end(table):
    table.insert_without_gc(VMExternRef(0))     # there is a chunk now
    next_ = ctypes.c_size_t.from_address(table.address + abi.ACTIVATIONS_NEXT_OFFSET)
    end = ctypes.c_size_t.from_address(table.address + abi.ACTIVATIONS_END_OFFSET)
    assert (end.value - next_.value) // WORD == table.bump_capacity_remaining() == CHUNK - 1
    ref = VMExternRef(Thing())
    ctypes.c_size_t.from_address(next_.value).value = ref.clone().into_raw()
    next_.value += WORD
    assert len(table) == 2 and ref.strong_count == 2
    assert table.gc() == 2 and ref.strong_count == 1


def test_the_c_header(compilers, tmp_path, table):
    source = tmp_path / "insert.c"
    source.write_text("""#include "externref_activations.h"
int insert(void *table, void *raw) { return externref_activations_try_insert(table, raw); }
""")
    subprocess.run([compilers[0], "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                    "-I", externref.get_include(), source, "-o", tmp_path / "insert.so"], check=True)
    insert = ctypes.CDLL(str(tmp_path / "insert.so")).insert
    insert.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    ref = VMExternRef(Thing())
    assert insert(table.address, ref.as_raw()) == 0         # no chunk yet
    table.insert_without_gc(VMExternRef(0))
    assert insert(table.address, ref.clone().into_raw()) == 1
    assert len(table) == 2 and table.gc() == 2 and ref.strong_count == 1


def test_a_finalizer_that_uses_the_table(table):
    log = []

    class Busy:
        def __del__(self):
            table.insert_without_gc(VMExternRef("new"))
            log.append(table.gc())

    for _ in range(5):
        table.insert_without_gc(VMExternRef(Busy()))
    assert table.gc() == 5
    assert log == [1] * 5 and len(table) == 0


def test_the_tables_death_drops_everything(make_payload):
    table, dropped = VMExternRefActivationsTable(), []
    for i in range(CHUNK + 10):
        table.insert_without_gc(VMExternRef(make_payload(dropped, i)))
    del table
    assert sorted(dropped) == list(range(CHUNK + 10))


@pytest.mark.parametrize("count", [1, 2 * CHUNK])
def test_a_cycle_through_the_table_is_kept_until_it_is_swept(count):
    # Counting code may clone what it was given, at any time: nothing that it may own is collected.
    table, thing = VMExternRefActivationsTable(), Thing()
    thing.table, thing.mark = table, 42
    weak = weakref.ref(thing)
    table.insert_without_gc(VMExternRef(thing))
    for i in range(count):
        table.insert_without_gc(VMExternRef([i]))
    del thing, table
    gc.collect()
    assert weak().mark == 42
    weak().table.sweep()
    gc.collect()
    assert weak() is None


def test_after_the_sweep_a_cycle_of_wrappers_is_collected():
    thing = Thing()
    table = VMExternRefActivationsTable()
    thing.ref = VMExternRef(thing)
    table.insert_with_gc(thing.ref)
    weak = weakref.ref(thing)
    del thing
    gc.collect()
    assert weak() is not None and externref.stats() == (1, 2, 1, 0)
    assert table.sweep() == 1
    gc.collect()
    assert weak() is None


@pytest.mark.parametrize("use", [
    "gc, [Number(0)]", "gc, (), [(Number(0), Number(0))]", "insert_with_gc, VMExternRef(1), [Number(0)]",
])
def test_the_caller_may_let_the_table_go_in_the_call(run_python, use):
    method, _, arguments = use.partition(", ")
    run_python(LET_GO + f"""
from externref import VMExternRef, VMExternRefActivationsTable
def make():
    table = VMExternRefActivationsTable()
    for i in range({CHUNK}):
        table.insert_without_gc(VMExternRef(i))
    return partial(table.{method}, {arguments})
assert let_go(make) == "over"
""", env={"PYTHONMALLOC": "debug"})


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer's free takes longer the more is freed")
def test_a_sweep_is_linear():

    def once(count):
        table = VMExternRefActivationsTable()
        for _ in range(count):
            table.insert_without_gc(VMExternRef(None))
        start = time.perf_counter()
        assert table.gc() == count
        return (time.perf_counter() - start) / count

    small = min(once(2000) for _ in range(20))
    large = min(once(200_000) for _ in range(3))
    assert large < 8 * small, (small, large)
