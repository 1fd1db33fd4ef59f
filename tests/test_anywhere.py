"""Native payloads of a type that is dropped anywhere: by the last drop itself, on its thread, without the GIL.

Promises P1, P2 and P8, but for P2's thread with the GIL: such a payload's drop needs none.
"""

import ctypes
import sys

import pytest

import externref
from externref import Function, InvalidRawPointerError, VMExternRef, VMExternRefActivationsTable, abi, debug
from support import load_extension
from test_capi import PRELUDE, build, make_native

ANYWHERE = 1
WITHOUT_GIL = 0     # as capi.take_drops() has the address of what was dropped without it


@pytest.fixture(scope="session", params=["C99", "C++17"])
def capi_path(request, compilers, tmp_path_factory):
    return build(compilers[0], tmp_path_factory.mktemp("anywhere"), request.param)


@pytest.fixture
def capi(capi_path):
    capi = load_extension(capi_path)
    yield capi
    externref.drain()
    assert capi.take_drops() == []
    assert externref.stats() == (0, 0, 0, 0)


def make(capi, drop="record", how="new_with", size=24, align=8):
    """A raw pointer, and the address of its payload."""
    return make_native(capi, capi.type(b"Blob", size, align, drop, ANYWHERE), how=how)


def holding(raw):
    """The content of a payload that owns this reference."""
    return bytes(ctypes.c_void_p(raw))


MAKERS = pytest.mark.parametrize("how", ["new_with", "new_anywhere"])


@MAKERS
def test_a_last_drop_without_the_gil_drops_the_payload(capi, how):
    raw, _ = make(capi, how=how)
    assert externref.stats() == (1, 0, 0, 0)
    capi.drop_on_thread(raw)        # whose caller has the GIL until it is over: nobody else can drop it
    assert (capi.take_drops(), externref.stats()) == ([WITHOUT_GIL], (0, 0, 0, 0))


@MAKERS
@pytest.mark.parametrize("size, align", [(0, 1), (1, 1), (24, 8), (40, 16), (4096, 4096)])
def test_sizes_and_alignments(capi, how, size, align):
    raw, address = make(capi, how=how, size=size, align=align)
    assert address % align == 0 and address + size <= raw
    capi.drop_on_thread(raw)
    assert capi.take_drops() == [WITHOUT_GIL]


def test_with_the_gil_it_is_dropped_there_too(capi):
    raw, address = make(capi)
    capi.release(raw)
    assert capi.take_drops() == [address]
    raw, address = make(capi)
    ref = capi.wrap(raw)
    clone = ref.clone()
    del ref
    assert capi.take_drops() == []
    del clone
    assert capi.take_drops() == [address]


def test_an_owner_in_python_keeps_it(capi):
    raw, address = make(capi)
    ref = capi.wrap_clone(raw)
    capi.drop_on_thread(raw)
    assert (capi.take_drops(), ref.strong_count) == ([], 1)
    ref.drop()
    assert capi.take_drops() == [address]


def test_a_drop_of_a_count_that_is_pythons_is_given_back(capi):
    with debug.track(guard=9) as tracker:
        raw, address = make(capi)
        ref = capi.wrap(raw)
        capi.drop_on_thread(raw)
        externref.drain()
        assert (capi.take_drops(), ref.strong_count, ref.clone() == ref) == ([], 1, True)
        mistake, = tracker.mistakes()
        assert mistake.startswith("compiled code dropped a reference that Python still owns")
        ref.drop()
        assert capi.take_drops() == [address]


def test_what_awaits_the_drain_and_is_returned_to_python_is_dropped_once(capi):
    """Compiled code had dropped the last owner: the drain drops it, though Python lets go of it before."""
    clone = Function(abi.clone_address, "w", "m")
    before = externref.set_drain(lambda: None)
    try:
        with debug.track(guard=9) as tracker:
            raw, address = make(capi)
            assert capi.wrap(raw).into_raw() == raw      # Python knows it now
            capi.drop_on_thread(raw)
            assert (capi.take_drops(), externref.stats().pending_drops) == ([], 1)
            clone(raw)
            mistake, = tracker.mistakes()
            assert mistake.startswith("compiled code used a reference that it had dropped")
            capi.drop_on_thread(raw)        # once more
            assert (capi.take_drops(), externref.stats().pending_drops) == ([], 1)
            externref.drain()
            assert capi.take_drops() == [address]
    finally:
        externref.set_drain(before)


def test_a_table_keeps_it(capi):
    raw, address = make(capi)
    table = VMExternRefActivationsTable()
    table.insert_with_gc(capi.wrap(raw))
    assert capi.take_drops() == []
    table.gc()
    assert capi.take_drops() == [address]


# -- What Python knows is dropped by who has the GIL

@pytest.mark.parametrize("take", [VMExternRef.from_raw, VMExternRef.clone_from_raw])
def test_an_address_that_was_not_handed_out_is_none(capi, take):
    raw, _ = make(capi)
    with pytest.raises(InvalidRawPointerError, match="never handed out"):
        take(raw)
    capi.hand_out(raw)
    capi.hand_out(raw)
    ref = take(raw)
    assert ref.strong_count == (1 if take is VMExternRef.from_raw else 2)
    ref.drop()
    if take is VMExternRef.clone_from_raw:
        capi.release(raw)
    assert len(capi.take_drops()) == 1
    with pytest.raises(InvalidRawPointerError):
        take(raw)
    capi.hand_out(0)


HANDED_OUT = {
    "hand_out": lambda capi, raw: capi.hand_out(raw),
    "as_raw": lambda capi, raw: capi.wrap_clone(raw).as_raw(),
    "borrow": lambda capi, raw: capi.wrap_clone(raw).borrow().__enter__(),
    "into_raw": lambda capi, raw: capi.release(capi.wrap_clone(raw).into_raw()),
}


@pytest.mark.parametrize("way", HANDED_OUT)
def test_what_was_handed_out_awaits_the_drain(capi, way):
    raw, address = make(capi)
    HANDED_OUT[way](capi, raw)
    capi.drop_on_thread(raw)
    externref.drain()       # if no helper has
    assert capi.take_drops() == [address]
    with pytest.raises(InvalidRawPointerError):
        VMExternRef.from_raw(raw)


# -- Payloads that own references

MILLION = 1_000_000     # of 100,000 the calls, one in another, find room on a stack of 8 MiB


@pytest.mark.parametrize("where", ["on a thread", "here", "by its wrapper"])
def test_a_chain_is_dropped_without_recursion(capi, where):
    link = capi.type(b"Link", ctypes.sizeof(ctypes.c_void_p), 8, "reference", ANYWHERE)
    raw, _ = make(capi)
    raw = capi.new_chain(link, raw, MILLION)
    assert externref.stats().live_blocks == MILLION + 1
    if where == "by its wrapper":
        capi.wrap(raw).drop()
    else:
        (capi.release if where == "here" else capi.drop_on_thread)(raw)
    assert len(capi.take_drops()) == 1 and externref.stats() == (0, 0, 0, 0)


@pytest.mark.parametrize("last", [
    lambda capi, raw: capi.drop_on_thread(raw), lambda capi, raw: capi.release(raw), lambda capi, raw: capi.wrap(raw).drop(),
    lambda capi, raw: (capi.hand_out(raw), capi.drop_on_thread(raw), externref.drain()),
], ids=["compiled code", "release", "wrapper", "drain"])
def test_a_drop_in_a_drop_waits_until_that_is_over(capi, last):
    raw, inner = make(capi)
    outer_type = capi.type(b"Outer", 8, 8, "reference, then record", ANYWHERE)
    raw, outer = make_native(capi, outer_type, holding(raw), "new_anywhere")
    last(capi, raw)
    assert capi.take_drops() in ([outer, inner], [WITHOUT_GIL] * 2)


def test_a_python_payload_in_one_awaits_the_drain(capi, make_payload):
    dropped = []
    inner = capi.from_object(make_payload(dropped, "inner"))
    outer, _ = make_native(capi, capi.type(b"Link", 8, 8, "reference", ANYWHERE), holding(inner))
    capi.drop_on_thread(outer)
    externref.drain()
    assert dropped == ["inner"]


def test_a_payload_without_a_drop(capi):
    raw, _ = make(capi, "nothing")
    capi.drop_on_thread(raw)


# -- Threads

@pytest.mark.parametrize("threads", [1, 4, 100])
def test_threads_make_and_drop_while_the_gil_is_held(capi, threads):
    times = 100_000 // threads
    made, dropped = capi.counts()
    assert capi.churn(capi.type(b"Counted", 1, 1, "count", ANYWHERE), threads, times) == 0
    assert capi.counts() == (made + threads * times, dropped + threads * times)
    assert externref.stats() == (0, 0, 0, 0)


def test_four_threads_own_one(capi, native, foreign):
    for _ in range(20):
        raw, _ = make(capi)
        for _ in range(3):
            native.clone(raw)
        assert foreign.hammer(raw, 4, 10_000) == 0
        assert capi.take_drops() == [WITHOUT_GIL]


def test_of_another_type_the_last_drop_awaits_the_drain(capi):
    raw, address = make_native(capi, capi.type(b"Blob", 8, 8), how="new_anywhere")
    capi.drop_on_thread(raw)
    externref.drain()
    assert capi.take_drops() == [address]


# -- What fails

def test_init_fails(capi):
    blob = capi.type(b"Blob", 8, 8, "record", ANYWHERE)
    for _ in range(3):
        assert capi.new_anywhere(blob, lambda address: False) is None
        with pytest.raises(RuntimeError, match="the init function of 'Blob' failed"):
            capi.new_with(blob, lambda address: False)
        with pytest.raises(ZeroDivisionError):
            capi.new_with(blob, lambda address: 1 / 0)
    assert externref.stats() == (0, 0, 0, 0)


def test_no_memory(capi):
    huge = capi.type(b"Huge", sys.maxsize // 2, 8, "record", ANYWHERE)
    assert capi.new_anywhere(huge, lambda address: True) is None
    with pytest.raises(MemoryError, match="no memory for a native 'Huge'"):
        capi.new_with(huge, lambda address: True)


def test_unknown_flags(capi):
    with pytest.raises(ValueError, match="flags must be 0 or EXTERNREF_DROP_ANYWHERE, not 0x3"):
        capi.type(b"Blob", 8, 8, "record", 3)
    raw = capi.new_with(capi.type(b"Blob", 8, 8, "nothing", 0), lambda address: True)
    assert VMExternRef.from_raw(raw)        # of a type without flags


# -- The end

@pytest.mark.parametrize("owner", [
    "raw", "ref = capi.wrap(raw)", "refs = [capi.wrap(raw)]; refs.append(refs); del refs", "capi.drop_on_thread(raw)",
    "import atexit; atexit.register(capi.drop_on_thread, raw)",
    "class Late:\n    def __del__(self, drop=capi.drop_on_thread, raw=raw): drop(raw)\nsys.late = Late()",
])
def test_exit(run_python, capi_path, owner):
    run_python(PRELUDE + "anywhere = capi.type(b'Blob', 8, 8, 'record', 1)\n"
               f"raw = capi.new_with(anywhere, make)\n{owner}", capi_path)
