"""Code that a release runs may do anything with any reference; deep chains. Promises P1, P2."""

import sys
import weakref

import pytest

import externref
from externref import MovedError, VMExternRef


def on_drop(action):
    """An object whose __del__ runs action()."""

    class Payload:
        def __del__(self):
            action()

    return Payload()


@pytest.fixture(params=["del", "drop", "native"])
def release(request, native):
    """Three ways to give up the last owner."""

    def by_del(refs):
        refs.pop()

    def by_drop(refs):
        refs[-1].drop()
        refs.pop()

    def by_native_drop(refs):
        native.drop(refs.pop().into_raw())
        externref.drain()

    return {"del": by_del, "drop": by_drop, "native": by_native_drop}[request.param]


def test_finalizer_that_makes_clones_and_drops_references(release):
    done = []

    def action():
        for i in range(20):
            ref = VMExternRef(i)
            clone = ref.clone()
            ref.drop()
            done.append(clone.value)
            VMExternRef.from_raw(clone.into_raw())

    release([VMExternRef(on_drop(action))])
    assert done == list(range(20))


def test_finalizer_that_drains(release, native):
    dropped = []
    refs = [VMExternRef(on_drop(lambda i=i: (dropped.append(i), externref.drain()))) for i in range(5)]
    for _ in range(4):
        native.drop(refs.pop(0).into_raw())
    release(refs)
    externref.drain()
    assert sorted(dropped) == list(range(5))


def test_finalizer_finds_its_own_reference_spent():
    seen = []

    def action():
        seen.append((ref.moved, externref.stats().live_blocks))
        with pytest.raises(MovedError):
            ref.clone()
        ref.drop()

    ref = VMExternRef(on_drop(action))
    ref.drop()
    assert seen == [(True, 0)]      # the block is gone before the payload is released


def test_finalizer_that_raises(release, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))

    def action():
        raise KeyError

    release([VMExternRef(on_drop(action))])
    assert unraisable == [KeyError]


def test_finalizer_that_resurrects_the_payload(release):
    kept = []

    class Phoenix:
        def __del__(self):
            kept.append(self)

    release([VMExternRef(Phoenix())])
    assert externref.stats().live_blocks == 0
    ref = VMExternRef(kept.pop())
    assert ref.strong_count == 1


def test_release_keeps_the_current_exception(release):
    with pytest.raises(ZeroDivisionError):
        refs = [VMExternRef(on_drop(lambda: VMExternRef(1).clone()))]
        try:
            _ = 1 / 0
        finally:
            release(refs)


def test_weakref_callback_during_the_wrapper_s_end():
    seen = []
    ref = VMExternRef(on_drop(lambda: seen.append("payload")))
    weak = weakref.ref(ref, lambda _: (seen.append("wrapper"), VMExternRef(1).clone()))
    del ref
    assert seen == ["wrapper", "payload"] and weak() is None


def test_finalizer_drops_other_references_of_the_same_allocation():
    clones = []
    ref = VMExternRef(on_drop(clones.clear))
    clones += [ref.clone() for _ in range(10)]
    ref.drop()
    assert externref.stats().handles == 10
    clones.clear()


def test_code_run_by_an_allocation_may_spend_the_wrapper_being_cloned():
    # A pending drop's finalizer runs inside clone(), before it looks at the wrapper.
    ref = VMExternRef("x")
    raw = VMExternRef(on_drop(ref.drop)).into_raw()
    import ctypes

    from externref import abi
    # Through PyDLL the GIL stays held, so no pending call comes in between.
    drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)

    def drop_and_clone():
        drop(raw)
        return ref.clone()

    with pytest.raises(MovedError):
        drop_and_clone()


MILLION = 1_000_000


def chain(length=MILLION):
    ref = VMExternRef("the end")
    for _ in range(length):
        ref = VMExternRef(ref)
    return ref


def test_chain_dropped_from_a_wrapper():
    ref = chain()
    assert externref.stats().live_blocks == MILLION + 1
    del ref
    assert externref.stats().live_blocks == 0


def test_chain_dropped_by_drop():
    chain().drop()
    assert externref.stats().live_blocks == 0


def test_chain_dropped_by_compiled_code(native):
    native.drop(chain().into_raw())
    externref.drain()
    assert externref.stats().live_blocks == 0


def test_chain_through_lists():
    ref = VMExternRef("the end")
    for _ in range(MILLION // 2):
        ref = VMExternRef([ref])
    del ref
    assert externref.stats().live_blocks == 0


def test_million_pending_drops(native):
    # PYFUNCTYPE holds the GIL: they gather, and one drain frees them all.
    import ctypes

    from externref import abi
    drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
    raws = [VMExternRef(i).into_raw() for i in range(MILLION // 10)]
    for raw in raws:
        drop(raw)
    externref.drain()
    assert externref.stats() == (0, 0, 0, 0)
