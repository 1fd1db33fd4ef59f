"""Memory that runs out is a MemoryError and loses nothing; memory in use stays flat."""

import ctypes
import importlib.util
import os
import subprocess
import sys

import pytest

from externref import VMExternRef
from support import FAIL_IN_TURN, NO_GIL, TESTS, run_compiler

PRELUDE = """
import ctypes, sys
import externref
from externref import VMExternRef, abi
drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
"""


@pytest.fixture(scope="module")
def failing_alloc(compilers, tmp_path_factory):
    library = tmp_path_factory.mktemp("failing_alloc") / "failing_alloc.so"
    run_compiler(compilers[0], "-shared", "-fPIC", TESTS / "c/failing_alloc.c", "-o", library)
    return library


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD is Linux's")
def test_no_memory_for_a_block(run_python, failing_alloc):
    run_python(PRELUDE + """
fails = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "aligned_alloc_fails")
value = ["kept"]
before = sys.getrefcount(value), externref.stats()
fails.value = 1
for make in (VMExternRef, VMExternRef.new, lambda value: VMExternRef.new_with(lambda: value)):
    try:
        make(value)
    except MemoryError as error:
        assert "no memory for a reference" in str(error)
    else:
        raise AssertionError("made without memory")
    assert (sys.getrefcount(value), externref.stats()) == before
fails.value = 0
assert VMExternRef(value).value is value
""", failing_alloc, env={"LD_PRELOAD": str(failing_alloc)})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD is Linux's")
@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python lacks _testcapi")
@pytest.mark.parametrize("operation", [
    "ref.clone()", "VMExternRef.from_raw(raw)", "VMExternRef.clone_from_raw(raw)", "identity.refs(value)",
    "identity_without_gil.refs(value)",
])
def test_no_memory_for_a_wrapper(run_python, failing_alloc, foreign, operation):
    # Of a moved result, too: it is released then, and not lost.
    run_python(PRELUDE + f"""
import _testcapi
fails = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "aligned_alloc_fails")
address = ctypes.cast(ctypes.CDLL(sys.argv[2]).identity, ctypes.c_void_p).value
identity = externref.Function(address, "m", "m")
identity_without_gil = externref.Function(address, "m", "m", release_gil=True)
value = ["kept"]
ref = VMExternRef(value)
raw = VMExternRef(value).into_raw()
clones = []
fails.value = 1
try:
    for _ in range(2000):
        clones.append(ref.clone())
except MemoryError as error:
    assert "no memory for a reference" in str(error)
    in_slabs = True
else:       # wrappers are of CPython's own memory
    in_slabs = fails.value = False
before = sys.getrefcount(value), externref.stats(), ref.strong_count
errors = 0
for after in range(20):
    if not in_slabs:
        _testcapi.set_nomemory(after, after + 1)
    try:
        {operation}
    except MemoryError:
        errors += 1
    else:
        _testcapi.remove_mem_hooks()
        assert not in_slabs
        if ".from_raw(raw)" in {operation!r}:
            raw = VMExternRef(value).into_raw()
    finally:
        _testcapi.remove_mem_hooks()
    assert (sys.getrefcount(value), externref.stats(), ref.strong_count) == before
assert errors
fails.value = 0
clones.clear()
{operation}
""", failing_alloc, foreign._name, env={"LD_PRELOAD": str(failing_alloc)})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD is Linux's")
@pytest.mark.skipif(NO_GIL, reason="without a GIL CPython has its own allocator alone")
def test_no_memory_to_release_a_function_of_set_drain(run_python, failing_alloc):
    # The helper has the last reference, and needs a block to have it released elsewhere.
    assert run_python(PRELUDE + """
import weakref
from queue import SimpleQueue
sys.path.append(sys.argv[2])
from core import API
fails = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "aligned_alloc_fails")
queue, full = SimpleQueue(), []
class Schedule:
    def __call__(self):
        externref.set_drain("main")
        fails.value = 1
        try:
            while True: full.append(API["from_object"](1))
        except MemoryError:
            queue.put("full")
schedule = Schedule()
weak = weakref.ref(schedule)
first, second = VMExternRef(1).into_raw(), VMExternRef(2).into_raw()
externref.set_drain(schedule)
del schedule
drop(first)
queue.get(timeout=20)
externref.set_drain(lambda: queue.put("next"))      # called when the helper is through with the other
drop(second)
queue.get(timeout=20)
print(weak() is not None)
fails.value = 0
for raw in full: drop(raw)
externref.drain()
""", failing_alloc, TESTS / "fuzz", env={"LD_PRELOAD": str(failing_alloc)}) == "True\n"


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks") or NO_GIL, reason="needs CPython's count of its blocks, and wrappers in slabs")
def test_what_counts_for_wrappers_is_bounded(run_python):
    run_python(PRELUDE + """
import gc
gc.set_threshold(1_000_000_000)
value = []
before = sys.getallocatedblocks()
refs = [VMExternRef(value) for _ in range(9 * 2**16)]
assert sys.getallocatedblocks() - before < 2**14
""")


@pytest.mark.skipif(not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ, reason="LD_PRELOAD is Linux's")
def test_an_allocator_that_asks_for_what_c11_says(run_python, compilers):
    # AddressSanitizer's, preloaded for somebody else's extension, ends the process else.
    library = subprocess.run([compilers[0], "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(library):
        pytest.skip(f"{compilers[0]} has no libasan.so")
    run_python(PRELUDE + """
refs = [VMExternRef(i) for i in range(2000)]
assert sum(ref.value for ref in refs) == 1999000
""", env={"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"})


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python lacks _testcapi")
@pytest.mark.parametrize("operation", [
    "VMExternRef(value)", "ref.clone()", "VMExternRef.from_raw(raw)", "VMExternRef.clone_from_raw(lent)",
    "other.into_raw()", "other.as_raw()", "other.borrow().__enter__()", "ref == ref", "ref.drop()", "externref.drain()",
])
def test_each_allocation_of_an_operation_fails_in_turn(run_python, operation):
    run_python(PRELUDE + FAIL_IN_TURN + f"""
value = ["kept"]
hold = [VMExternRef(i) for i in range(600)]     # the free lists are empty
ref = VMExternRef(value)
raw = ref.clone().into_raw()
lent = ref.as_raw()
others = [VMExternRef(value) for _ in range(32)]
for other in others[:-1]: other.as_raw()        # 32 addresses with lent: one more, and their table grows
other = others[-1]
result = fail_in_turn(
    lambda: {operation}, lambda: (externref.stats(), sys.getrefcount(value), ref.strong_count, other.moved))
if type(result) is int and result:      # a raw pointer: it must be one that is accepted
    assert VMExternRef.clone_from_raw(result).value is value
""")


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python lacks _testcapi")
def test_each_allocation_of_the_first_pointer_that_is_handed_out_fails_in_turn(run_python):
    run_python(PRELUDE + FAIL_IN_TURN + """
ref = VMExternRef(["kept"])
raw = fail_in_turn(ref.as_raw, lambda: (externref.stats(), ref.strong_count))
assert VMExternRef.clone_from_raw(raw) == ref
""")


RSS = """
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("loop", [
    "VMExternRef(value).clone()",
    "VMExternRef.from_raw(VMExternRef(value).into_raw())",
    "drop(VMExternRef(value).into_raw())",
    "VMExternRef(value).as_raw()",
    "VMExternRef(value).borrow().__enter__()",
    "VMExternRef([VMExternRef(value)]).drop()",
])
def test_memory_stays_flat(run_python, loop):
    run_python(PRELUDE + RSS + f"""
value = object()
def work(n):
    for _ in range(n):
        {loop}
work(20_000)
before = resident()
work(200_000)
externref.drain()
assert resident() - before < 1 << 20, resident() - before
assert externref.stats() == (0, 0, 0, 0)
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_a_live_reference_takes(run_python):
    most = 100 if NO_GIL else 90    # without a GIL a block is an allocation of its own
    run_python(PRELUDE + RSS + f"""
import gc
gc.disable()    # what its first collections take is not the references'
n = 500_000
value = []
refs = [None] * n
before = resident()
for i in range(n):
    refs[i] = VMExternRef(value)
assert (resident() - before) / n <= {most}, (resident() - before) / n
""")


@pytest.mark.skipif(NO_GIL, reason="nothing is kept for reuse without a GIL")
def test_a_full_collection_frees_what_is_kept_for_reuse(run_python):
    run_python(PRELUDE + """
import gc
if not hasattr(ctypes.CDLL(None), "mallinfo2"):
    sys.exit()      # not glibc, or an old one
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
def in_use():
    info = mallinfo()
    return info.uordblks + info.hblkhd      # what is large is mapped, perhaps
def fill():     # each list of the dead keeps at most 256
    for raw in [VMExternRef(i).into_raw() for i in range(200)]:
        drop(raw)
    externref.drain()
    [VMExternRef(i) for i in range(200)]
fill()
gc.collect()
freed = []
for _ in range(11):
    fill()
    before = in_use()
    gc.collect()
    freed.append(before - in_use())
# Of most: the helper makes its thread state at some time.
assert sorted(freed)[5] >= 30_000, freed        # a slab
refs = [VMExternRef(i) for i in range(1000)]    # what comes after is whole
assert len({ref.as_raw() for ref in refs}) == 1000 and sum(ref.value for ref in refs) == 499500
""")


@pytest.mark.skipif(NO_GIL, reason="without a GIL CPython's own allocator keeps what a burst of objects took")
def test_handed_out_addresses_are_forgotten(run_python):
    # The set of them shrinks again: a burst does not stay in memory.
    run_python(PRELUDE + RSS + """
import gc
value = object()
def burst(n):
    raws = [VMExternRef(value).into_raw() for _ in range(n)]
    for raw in raws:
        VMExternRef.from_raw(raw)
burst(1000)
before = resident()
burst(1_000_000)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
assert resident() - before < 8 << 20, resident() - before
""")


def test_a_reference_has_the_collectors_header():
    # The two words that _core/wrapper.h takes CPython's collector to have, if it has them before the object.
    size = sys.getsizeof(VMExternRef(None)) - VMExternRef.__basicsize__
    assert size == (0 if NO_GIL else 2 * ctypes.sizeof(ctypes.c_void_p))
