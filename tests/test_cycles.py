"""Cycles that only wrappers own are collected; nothing that compiled code owns is. Promises P1, P3."""

import ctypes
import gc
import sys
import weakref
from functools import partial

import pytest

import externref
from externref import VMExternRef, VMExternRefActivationsTable, abi
from support import one_after_the_other

held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)      # no pending call comes in between

class Node:
    pass


@pytest.fixture(autouse=True)
def no_automatic_collection():
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    yield
    if was_enabled:
        gc.enable()


def cycle(clones=0):
    """A node that owns a reference to itself, and so do its clones."""
    node = Node()
    node.text = "intact"
    node.ref = VMExternRef(node)
    node.clones = [node.ref.clone() for _ in range(clones)]
    return node


def collected(node_weak):
    gc.collect()
    return node_weak() is None


@pytest.mark.parametrize("clones", [0, 1, 5])
def test_self_cycle(clones):
    node = cycle(clones)
    weak = weakref.ref(node)
    del node
    assert weak() is not None
    assert collected(weak)


def test_cycle_through_several_boxes():
    nodes = [Node() for _ in range(10)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.ref = VMExternRef(following)
    weak = weakref.ref(nodes[3])
    del node, following, nodes
    assert collected(weak)


def test_reference_that_boxes_a_list_of_itself():
    holder = []
    ref = VMExternRef(holder)
    holder.append(ref)
    weak = weakref.ref(ref)
    del ref, holder
    assert collected(weak)


def test_external_wrapper_keeps_the_cycle():
    node = cycle(3)
    weak, outside = weakref.ref(node), node.ref.clone()
    del node
    assert not collected(weak) and weak().text == "intact"
    del outside
    assert collected(weak)


def test_cycle_after_a_raw_round_trip(native):
    node = cycle(2)
    node.ref = VMExternRef.from_raw(node.ref.into_raw())
    native.drop(node.clones.pop().into_raw())
    weak = weakref.ref(node)
    del node
    assert collected(weak)


def test_cycle_after_compiled_code_cloned_and_dropped(native):
    node = cycle()
    raw = node.ref.clone().into_raw()
    native.drop(native.clone(raw))
    native.drop(raw)
    weak = weakref.ref(node)
    del node
    assert collected(weak)


@pytest.mark.parametrize("clones", [0, 3])
def test_raw_owner_keeps_the_payload_alive_and_intact(native, clones):
    # The cycle is garbage to Python; compiled code still owns it.
    node = cycle(clones)
    weak = weakref.ref(node)
    raw = native.clone(node.ref.as_raw())
    del node
    assert not collected(weak)
    assert weak().text == "intact" and weak().ref.value is weak()
    native.drop(raw)
    externref.drain()
    node = weak()       # as_raw exposed the block for good: break the cycle by hand
    for ref in [node.ref, *node.clones]:
        ref.drop()
    del node
    assert collected(weak)


@pytest.mark.parametrize("clones", [0, 3])
def test_moved_out_owner_keeps_the_payload_and_its_drop_frees_the_cycle(native, clones):
    node = cycle(clones)
    weak = weakref.ref(node)
    raw = node.ref.clone().into_raw()
    del node
    assert not collected(weak) and weak().text == "intact"
    native.drop(raw)
    assert collected(weak)


def test_cycle_owned_by_a_raw_pointer_alone(native):
    node = Node()
    weak = weakref.ref(node)
    raw = VMExternRef(node).into_raw()
    node.self = node
    del node
    assert not collected(weak)
    native.drop(raw)
    externref.drain()
    assert collected(weak)


def test_lent_block_is_left_alone():
    node = cycle()
    weak = weakref.ref(node)
    node.ref.as_raw()
    del node
    assert not collected(weak)
    weak().ref.drop()
    assert collected(weak)


def test_borrow_leaves_no_mark():
    node = cycle()
    weak = weakref.ref(node)
    with node.ref.borrow():
        assert externref.stats().exposed == 1
        del node
        assert not collected(weak)
    assert externref.stats().exposed == 0
    assert collected(weak)


def test_borrows_nest():
    node = cycle()
    weak = weakref.ref(node)
    with node.ref.borrow():
        with node.ref.clone().borrow():
            pass
        assert externref.stats().exposed == 1
        del node
        assert not collected(weak)
    assert collected(weak)


def test_exposed_inside_a_borrow_stays_exposed():
    ref = VMExternRef([])
    with ref.borrow():
        ref.as_raw()
        assert externref.stats().exposed == 1
    assert externref.stats().exposed == 1


def test_borrow_in_the_cycle_itself():
    node = cycle()
    node.borrow = node.ref.borrow()
    weak = weakref.ref(node)
    del node
    assert collected(weak)


def test_finalizer_that_moves_its_own_reference_out(native):
    # Collected, it hands itself to compiled code: that is an owner, so it lives on.
    raws = []

    class Escaping(Node):
        def __del__(self):
            raws.append(self.ref.into_raw())

    node = Escaping()
    node.ref = VMExternRef(node)
    weak = weakref.ref(node)
    del node
    gc.collect()
    assert len(raws) == 1
    back = VMExternRef.from_raw(raws[0])
    assert back.value.ref.moved
    assert externref.stats().live_blocks == 1
    del back
    assert collected(weak)


def test_finalizer_that_resurrects():
    kept = []

    class Stubborn(Node):
        def __del__(self):
            kept.append(self.ref.clone())

    node = Stubborn()
    node.ref = VMExternRef(node)
    weak = weakref.ref(node)
    del node
    gc.collect()
    assert kept[0].value.ref == kept[0] and kept[0].strong_count == 2
    kept.clear()
    gc.collect()
    assert collected(weak)


def test_every_payload_of_a_collected_cycle_is_dropped_once(make_payload):
    dropped = []
    for i in range(100):
        payload = make_payload(dropped, i)
        payload.refs = [VMExternRef(payload)]
        payload.refs.append(payload.refs[0].clone())
    del payload
    gc.collect()
    assert sorted(dropped) == list(range(100))


def test_a_traverse_changes_nothing():
    # gc.get_referents() is that alone. What awaits the drain would run code, and what is in a chunk would be moved.
    node, table = cycle(2), VMExternRefActivationsTable()
    table.insert_without_gc(VMExternRef(node))
    pending = VMExternRef([]).into_raw()
    look = partial(node.ref.__getattribute__, "strong_count"), partial(sys.getrefcount, node), table.bump_capacity_remaining
    traverse = partial(gc.get_referents, node.ref, *node.clones, table)
    _, *before = one_after_the_other(partial(held_drop, pending), *look, externref.stats, traverse, *look, externref.stats)
    count, references, room, stats, referents, *after = before
    assert after == [count, references + len(referents), room, stats] and stats.pending_drops == 1
    table.gc()


def test_collector_at_every_allocation(native):
    # Traverse has no side effects: counts survive a collection at every step.
    thresholds = gc.get_threshold()
    gc.enable()
    gc.set_threshold(1)
    try:
        nodes = [cycle(2) for _ in range(50)]
        raws = [node.ref.clone().into_raw() for node in nodes]
        weaks = [weakref.ref(node) for node in nodes]
        del nodes
        assert all(weak().ref.strong_count == 4 for weak in weaks)
        backs = [VMExternRef.from_raw(raw) for raw in raws]
        assert all(back.strong_count == 4 for back in backs)
        del backs
        gc.collect()
        assert not any(weak() for weak in weaks)
    finally:
        gc.set_threshold(*thresholds)
        gc.disable()


@pytest.mark.parametrize("clones", [0, 20])
def test_cycles_are_collected_without_being_asked_for(clones):
    # It is their payloads that bring the next collection nearer: of references one in eight does.
    seen = [weakref.ref(cycle(clones)) for _ in range(100)]
    gc.enable()
    for _ in range(5_000):
        cycle(clones)
    assert not any(weak() for weak in seen)


def test_many_references_to_one_payload_bring_a_collection_nearer():
    def garbage():
        payload = []
        payload.extend([VMExternRef(payload) for _ in range(3000)])

    gc.enable()
    for _ in range(60):
        garbage()
    assert externref.stats().live_blocks < 90_000       # of 180,000
