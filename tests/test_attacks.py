"""Nobody takes what the package holds for somebody, and no code runs where an invariant is half made.
Promises P1, P2, P3, P5.

Each test is an attack that once worked, with callees that keep the contract of externref.h.
"""

import contextlib
import ctypes
import gc
import sys
import threading
import time
import types
import weakref
from functools import partial

import pytest

import externref
from externref import (
    Function,
    InvalidRawPointerError,
    VMExternRef,
    VMExternRefActivationsTable,
    abi,
    option_from_raw,
)
from support import Payload, one_after_the_other

CHUNK = 512
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)     # holds the GIL


class Thing:
    pass


def store_as_compiled_code(table, raw):
    """Into the chunk of a table that has one, with room."""
    place = ctypes.c_size_t.from_address(table.address + abi.ACTIVATIONS_NEXT_OFFSET)
    ctypes.c_size_t.from_address(place.value).value = raw
    place.value += ctypes.sizeof(ctypes.c_size_t)


@contextlib.contextmanager
def lent_as_often_as_can_be_counted(raw):
    state = ctypes.c_uint32.from_address(raw + abi.FOOTER_SIZE - 4)
    before = state.value
    state.value |= 2**22 - 1
    yield
    state.value = before


def address_of(foreign, name):
    return ctypes.cast(getattr(foreign, name), ctypes.c_void_p).value


def finalizer(action):
    """An object whose __del__ runs action()."""
    return type("Finalizer", (), {"__del__": lambda self: action()})()


def steal(raw, outcomes):
    """Every way to take a raw owner's count: all must be refused."""
    for take in (VMExternRef.from_raw, option_from_raw):
        try:
            take(raw).drop()
            outcomes.append("stolen")
        except InvalidRawPointerError:
            outcomes.append("refused")


# --- What is in flight

class TestArguments:
    @pytest.mark.parametrize("letter", ["m", "r"])
    @pytest.mark.parametrize("boxed", [False, True])
    def test_stolen_while_the_next_is_converted(self, letter, boxed):
        outcomes, dropped = [], []
        ref = VMExternRef(Payload(dropped))
        raw = ref.as_raw()

        class Thief:
            def __index__(self):
                steal(raw, outcomes)
                return 0

        count = Function(abi.clone_address, letter + "w", "w")    # gives its argument's address
        if letter == "m":
            count = Function(abi.drop_address, "mw", "")
        count(ref, Thief())
        if letter == "r":
            held_drop(raw)
        assert outcomes == ["refused", "refused"] and dropped == []
        assert ref.strong_count == 1 and ref.value is not None
        ref.drop()
        assert dropped == [None]

    def test_stolen_by_the_error_of_a_later_one(self):
        outcomes, ref = [], VMExternRef([])
        raw = ref.as_raw()

        class Thief:
            def __index__(self):
                steal(raw, outcomes)
                raise KeyError

        with pytest.raises(KeyError):
            Function(abi.drop_address, "mrw", "")(ref, ref, Thief())
        assert outcomes == ["refused"] * 2 and ref.strong_count == 1

    def test_stolen_from_another_thread_while_the_callee_runs_without_the_gil(self, foreign):
        hold = Function(address_of(foreign, "hold_for_ms"), "rw", "w", release_gil=True)
        ref, outcomes, counts = VMExternRef([1]), [], []
        thread = threading.Thread(target=lambda: counts.append(hold(ref, 200)))
        thread.start()
        time.sleep(0.05)
        steal(ref.as_raw(), outcomes)
        thread.join()
        assert outcomes == ["refused"] * 2 and counts == [2] and ref.strong_count == 1

    def test_stolen_by_a_callback(self):
        outcomes = []

        @ctypes.PYFUNCTYPE(None, ctypes.c_size_t)
        def callback(raw):
            steal(raw, outcomes)
            assert VMExternRef.clone_from_raw(raw).value == ["boxed"]

        call = Function(ctypes.cast(callback, ctypes.c_void_p).value, "r")
        call(["boxed"])
        assert outcomes == ["refused"] * 2
        assert externref.stats() == (0, 0, 0, 0)

    def test_a_moved_one_is_the_callees_to_give_away(self):
        # What it owns, Python may take by its address: that is what from_raw() is for.
        taken = []

        @ctypes.PYFUNCTYPE(None, ctypes.c_size_t)
        def callback(raw):
            taken.append(VMExternRef.from_raw(raw))

        Function(ctypes.cast(callback, ctypes.c_void_p).value, "m")(["boxed"])
        assert taken.pop().value == ["boxed"]

    def test_more_are_lent_than_can_be_counted(self):
        ref = VMExternRef([])
        lent = Function(abi.clone_address, "r", "w")
        with lent_as_often_as_can_be_counted(ref.as_raw()):
            for lend in (lambda: lent(ref), ref.borrow().__enter__,
                         lambda: VMExternRefActivationsTable().insert_with_gc(ref),
                         lambda: VMExternRefActivationsTable().try_insert(ref)):
                with pytest.raises(OverflowError, match="lent as often"):
                    lend()
        assert not ref.moved and ref.strong_count == 1


class TestResults:
    def test_a_lent_one_is_counted_before_anything_runs(self, foreign):
        replace = Function(address_of(foreign, "replace"), "m", "r")
        clear = Function(address_of(foreign, "replace"), "w", "w")
        dropped = []
        replace(finalizer(lambda: clear(0)))        # the old one's end takes away the new one
        ref = replace.refs(Payload(dropped))
        assert dropped == [] and ref.value.name is None
        externref.drain()
        assert ref.strong_count == 1 and dropped == []
        ref.drop()
        assert dropped == [None]
        clear(0)

    def test_a_moved_out_one_of_a_callee_that_raises_is_given_up_before_anybody_can_take_it(self, foreign):
        # Ending the holds of its arguments runs a thief.
        outcomes, ref = [], VMExternRef([1])
        raw = ref.as_raw()
        thief = VMExternRef(finalizer(lambda: steal(raw, outcomes)))

        class Dropping:
            def __index__(self):
                thief.drop()        # the hold is its last owner
                return 0

        with pytest.raises(MemoryError):
            Function(address_of(foreign, "give_and_raise"), "rrw", "m")(ref, thief, Dropping())
        assert outcomes == ["refused"] * 2
        assert ref.strong_count == 1 and externref.stats().handles == 1


def test_the_name_of_a_payloads_type_runs_no_code():
    kept = []

    class Meta(type):
        @property
        def __name__(cls):
            kept.pop().drop()
            return "evil"

    class Evil(metaclass=Meta):
        pass

    ref = VMExternRef(Evil())
    kept.append(ref)
    assert "to 'Evil', strong_count 1" in repr(ref) and kept == [ref]


# --- Tables

class TestTables:
    @pytest.mark.parametrize("insert", ["insert_without_gc", "try_insert", "insert_with_gc"])
    @pytest.mark.parametrize("flushed", [False, True])
    def test_an_entry_cannot_be_taken(self, insert, flushed):
        table, ref, outcomes = VMExternRefActivationsTable(), VMExternRef(["x"]), []
        raw = ref.as_raw()
        getattr(table, insert)(ref)
        if flushed:
            table.insert_precise_stack_root(raw)
        steal(raw, outcomes)
        assert outcomes == ["refused"] * 2 and len(table) == 1
        ref.drop()
        assert VMExternRef.clone_from_raw(raw).value == ["x"]
        del table

    def test_what_compiled_code_inserted_cannot_be_taken(self):
        table, outcomes = VMExternRefActivationsTable(), []
        table.insert_without_gc(VMExternRef(0))             # there is a chunk
        raw = VMExternRef(["x"]).into_raw()
        next_ = ctypes.c_void_p.from_address(table.address + abi.ACTIVATIONS_NEXT_OFFSET)
        ctypes.c_size_t.from_address(next_.value).value = raw
        next_.value += ctypes.sizeof(ctypes.c_void_p)
        steal(raw, outcomes)
        assert outcomes == ["refused"] * 2 and len(table) == 2
        assert table.gc(roots=[raw]) == 1 and VMExternRef.clone_from_raw(raw).value == ["x"]
        assert table.gc() == 1 and externref.stats().live_blocks == 0

    def test_a_table_whose_address_was_read_goes_from_the_list(self):
        tables = [VMExternRefActivationsTable() for _ in range(5)]
        assert len({table.address for table in tables}) == 5
        for i in (2, 0, 2, 1, 0):
            del tables[i]
            VMExternRef.from_raw(VMExternRef(1).into_raw())

    def test_what_cannot_be_adopted_cannot_be_taken(self):
        # No more lends can be counted, so the table's word stays a raw owner's count.
        table, ref = VMExternRefActivationsTable(), VMExternRef(["x"])
        table.insert_without_gc(VMExternRef(0))
        raw = ref.as_raw()
        with lent_as_often_as_can_be_counted(raw):
            store_as_compiled_code(table, ref.clone().into_raw())
            with pytest.raises(OverflowError, match="no room to say so"):
                VMExternRef.from_raw(raw)
            taken = ref.clone().into_raw()      # another count is nobody's but compiled code's
            assert VMExternRef.from_raw(taken) == ref
        assert table.gc(roots=[raw]) == 1 and ref.strong_count == 2
        del table

    def test_a_table_that_goes_drops_what_it_could_not_adopt(self):
        table, ref = VMExternRefActivationsTable(), VMExternRef(["x"])
        table.insert_without_gc(VMExternRef(0))
        with lent_as_often_as_can_be_counted(ref.as_raw()):
            store_as_compiled_code(table, ref.clone().into_raw())
            with pytest.raises(OverflowError, match="lent as often"):
                table.sweep()
            assert ref.strong_count == 2
            del table
            assert ref.strong_count == 1

    def test_what_is_only_lent_is_no_tables(self):
        # Compiled code stored a pointer without a count.
        table, ref = VMExternRefActivationsTable(), VMExternRef(["x"])
        table.insert_without_gc(VMExternRef(0))
        store_as_compiled_code(table, ref.as_raw())
        for use in (table.sweep, table.gc, partial(table.insert_precise_stack_root, 0)):
            with pytest.raises(InvalidRawPointerError, match="no owner to take over"):
                use()
        del table, use      # before what it points to
        assert ref.strong_count == 1

    def test_a_place_is_not_used_up_by_a_finalizer_after_it_was_found(self):
        table = VMExternRefActivationsTable()
        for _ in range(CHUNK - 1):
            table.insert_without_gc(VMExternRef(0))
        raw = VMExternRef(finalizer(lambda: table.insert_without_gc(VMExternRef("late")))).into_raw()
        ref = VMExternRef("x")
        one_after_the_other(partial(held_drop, raw), partial(table.try_insert, ref))
        externref.drain()
        assert 0 <= table.bump_capacity_remaining() <= CHUNK and len(table) == CHUNK + 1

    def test_a_native_thread_on_what_a_public_table_owns_keeps_it_from_the_collector(self, foreign):
        table, thing = VMExternRefActivationsTable(), Thing()
        thing.self, thing.mark = thing, 42
        ref = VMExternRef(thing)
        raw = ref.as_raw()
        table.insert_without_gc(ref)
        weak = weakref.ref(thing)
        del thing, ref
        assert foreign.start_hammering(raw) == 0
        try:
            for _ in range(300):
                gc.collect()
                assert weak().mark == 42
        finally:
            assert foreign.stop_hammering() == 0
        table.gc()

    def test_tables_in_a_chain_end_without_recursion(self):
        table = None
        for _ in range(300_000):
            holder = VMExternRefActivationsTable()
            if table is not None:
                holder.insert_without_gc(VMExternRef(table))
            table = holder
        del table, holder


# --- Borrows

class TestBorrows:
    def test_the_hold_cannot_be_fished_out_of_the_collector(self):
        ref = VMExternRef(["x"])
        with (borrow := ref.borrow()) as raw:
            referents = [thing for thing in gc.get_referents(borrow) if isinstance(thing, VMExternRef)]
            for thing in referents:
                thing.drop()
            ref.drop()
            outcomes = []
            steal(raw, outcomes)
            assert outcomes == ["refused"] * 2
            assert VMExternRef.clone_from_raw(raw).value == ["x"]
        assert externref.stats().live_blocks == 0

    def test_entered_again_by_a_finalizer_that_entering_drains(self):
        ref = VMExternRef([])
        borrow = ref.borrow()
        raw = VMExternRef(finalizer(borrow.__enter__)).into_raw()
        with pytest.raises(RuntimeError, match="open already"):
            one_after_the_other(partial(held_drop, raw), borrow.__enter__)
        assert ref.strong_count == 2 and externref.stats().exposed == 1
        borrow.__exit__(None, None, None)
        assert ref.strong_count == 1 and externref.stats().exposed == 0

    @pytest.mark.parametrize("held_by", ["wrappers, too", "the borrows alone"])
    def test_a_chain_of_open_ones_ends_without_recursion(self, held_by):
        ref = VMExternRef("the end")
        for _ in range(200_000):
            borrow = ref.borrow()
            borrow.__enter__()
            if held_by == "the borrows alone":      # else it is the wrappers that end one after the other
                ref.drop()
            ref = VMExternRef(borrow)
        del ref, borrow


# --- Finalizers, in great numbers and deep

class TestFinalizers:
    def test_finally_blocks_of_generators_dropped_in_one_go_all_complete(self, native):
        done = []

        def generate(i):
            try:
                yield
            finally:
                VMExternRef(i).drop()
                done.append(i)

        def started(i):
            generator = generate(i)
            next(generator)
            return generator

        raws = [VMExternRef(started(i)).into_raw() for i in range(20_000)]
        list(map(held_drop, raws))
        externref.drain()
        assert sorted(done) == list(range(20_000))

    def test_closures_with_callbacks_that_use_the_package_dropped_in_one_go(self):
        things = [Thing() for _ in range(200_000)]
        watchers = [weakref.ref(thing, VMExternRef) for thing in things]
        raws = [VMExternRef(thing).into_raw() for thing in things]
        del things
        list(map(held_drop, raws))
        externref.drain()
        assert not any(watcher() for watcher in watchers)

    def test_a_drain_in_a_drain_returns_zero(self):
        nested = []
        raws = [VMExternRef(finalizer(lambda: nested.append(externref.drain()))).into_raw() for _ in range(3)]
        *_, drained = one_after_the_other(*(partial(held_drop, raw) for raw in raws), externref.drain)
        assert drained == 3 and nested == [0, 0, 0]

    def test_a_drain_comes_to_what_its_finalizers_let_go(self):
        order = []

        def link(depth):
            def action():
                order.append(depth)
                if depth:
                    held_drop(VMExternRef(link(depth - 1)).into_raw())
            return finalizer(action)

        raw = VMExternRef(link(5000)).into_raw()
        *_, drained = one_after_the_other(partial(held_drop, raw), externref.drain)
        assert drained == 5001 and order == list(range(5000, -1, -1))

    def test_another_threads_drain_does_not_wait(self):
        entered, go_on, drained = threading.Event(), threading.Event(), []
        raw = VMExternRef(finalizer(lambda: (entered.set(), go_on.wait(10)))).into_raw()
        held_drop(raw)
        draining = threading.Thread(target=externref.drain)
        draining.start()
        other = threading.Thread(target=lambda: (entered.wait(10), drained.append(externref.drain())))
        other.start()
        other.join(5)
        assert drained == [0] and not other.is_alive()
        go_on.set()
        draining.join()

    def test_a_chain_through_cells_with_weak_references_to_the_wrappers(self):
        # The callbacks hold the cells, so that none dies with its wrapper until they are gone.
        watchers = []
        ref = VMExternRef("the end")
        for _ in range(300_000):
            cell = types.CellType(ref)
            ref = VMExternRef(cell)
            watchers.append(weakref.ref(ref, partial(lambda cell, _: None, cell)))
        del cell, ref
        assert externref.stats().live_blocks == 0
        del watchers


# --- Integers that are no pointers

@pytest.mark.parametrize("huge", [1 << 64, 1 << 20_000, -(1 << 20_000), -1], ids=["65 bits", "20001 bits", "-20001 bits", "-1"])
def test_no_address(huge):
    for take in (VMExternRef.from_raw, VMExternRef.clone_from_raw, option_from_raw):
        with pytest.raises(InvalidRawPointerError, match="does not fit in a word"):
            take(huge)
    table = VMExternRefActivationsTable()
    for call in (lambda: table.gc(roots=[huge]), lambda: table.gc(ranges=[(huge, 8)]),
                 lambda: table.insert_precise_stack_root(huge)):
        with pytest.raises(OverflowError, match="does not fit in a word"):
            call()


@pytest.mark.parametrize("huge", [1 << 64, 1 << 20_000, -(1 << 20_000)], ids=["65 bits", "20001 bits", "-20001 bits"])
def test_no_word(huge):
    for call in (lambda: Function(huge, ""), lambda: Function(abi.drop_address, "w")(huge)):
        with pytest.raises(OverflowError, match="does not fit in a machine word"):
            call()


# --- Every operation, while finalizers use the very object it works on

def operations():
    table = VMExternRefActivationsTable()
    ref = VMExternRef(["x"])
    other = VMExternRef(["y"])
    borrow = ref.borrow()
    count = Function(abi.clone_address, "r", "m")
    attacks = {
        "drop": lambda: ref.drop(),
        "drain": externref.drain,
        "insert": lambda: table.insert_without_gc(VMExternRef(1)),
        "sweep": table.sweep,
        "enter": lambda: borrow.__enter__(),
        "exit": lambda: borrow.__exit__(None, None, None),
        "move": lambda: VMExternRef.from_raw(ref.into_raw()),
        "collect": gc.collect,
    }
    uses = {
        "clone": ref.clone,
        "into_raw": ref.into_raw,
        "as_raw": ref.as_raw,
        "enter": borrow.__enter__,
        "call": partial(count, ref),
        "refs": partial(count.refs, ref),
        "box": partial(count.refs, ["z"]),
        "try_insert": partial(table.try_insert, ref),
        "insert_with_gc": partial(table.insert_with_gc, ref),
        "gc": partial(table.gc, [other.as_raw()]),
        "drop": ref.drop,
    }
    return attacks, uses


ATTACKS, USES = map(list, operations())


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_operation_that_drains_an_attack_on_itself(attack, use):
    attacks, uses = operations()
    attacked = []

    def action():
        attacked.append(attack)
        with contextlib.suppress(externref.MovedError, RuntimeError):
            attacks[attack]()

    raw = VMExternRef(finalizer(action)).into_raw()
    with contextlib.suppress(externref.MovedError, RuntimeError):
        *_, result = one_after_the_other(partial(held_drop, raw), uses[use])
        if use == "into_raw":
            VMExternRef.from_raw(result)
    externref.drain()
    assert attacked == [attack]


# --- Who calls lets go of what it lends: `self`, an argument

class Equal:
    """A sentinel that ends iter() with whatever was returned, which is kept."""

    def __init__(self):
        self.kept = []

    def __eq__(self, other):
        self.kept.append(other)
        return True


@pytest.mark.parametrize("name", ["into_raw", "clone", "drop", "as_raw", "borrow"])
def test_self_goes_in_the_drain(name):
    """CPython does not hold what iter() calls. Other references may have its memory then."""
    def end():
        next(iterator, None)
        others.extend(map(VMExternRef, range(300)))

    others, sentinel, ref = [], Equal(), VMExternRef("mine")
    iterator = iter(ref.borrow().__enter__ if name == "borrow" else getattr(ref, name), sentinel)
    del ref
    raw = VMExternRef(finalizer(end)).into_raw()
    # CPython 3.11.2 compares with the sentinel that it has let go: a SystemError.
    with contextlib.suppress(externref.MovedError, RuntimeError, SystemError):
        one_after_the_other(partial(held_drop, raw), partial(next, iterator, None))
    assert len(sentinel.kept) in (1, 2)
    assert [other.value for other in others] == list(range(300))
    if name == "into_raw":
        assert VMExternRef.from_raw(sentinel.kept[0]).value == "mine"


@pytest.mark.parametrize("make", [VMExternRef, VMExternRef.new])
def test_a_weak_reference_whose_callback_boxes_it_goes_in_the_drain(make):
    """3.11 lends it to the callback."""
    drop = Function(abi.drop_address, "mr")     # the first argument; the second goes before any Python code runs
    for _ in range(50):
        thing = [Thing()]
        kept = [weakref.ref(thing[0], make)]
        drop(finalizer(kept.clear), thing.pop())
        externref.drain()
        assert kept == []


# --- Found by reviews of what had been mended

@pytest.mark.parametrize("thief", ["in the set", "in the chunk"])
def test_a_dying_table_has_what_compiled_code_inserted(make_payload, thief):
    dropped, taken = [], []

    def steal():
        with pytest.raises(InvalidRawPointerError):
            taken.append(VMExternRef.from_raw(raw))

    table = VMExternRefActivationsTable()
    raw = VMExternRef(make_payload(dropped)).into_raw()
    if thief == "in the set":
        table.insert_without_gc(VMExternRef(finalizer(steal)))
        table.insert_precise_stack_root(0)
    else:
        table.insert_without_gc(VMExternRef(0))
    place = ctypes.c_size_t.from_address(table.address + abi.ACTIVATIONS_NEXT_OFFSET)
    ctypes.c_size_t.from_address(place.value).value = raw
    place.value += ctypes.sizeof(ctypes.c_size_t)
    if thief == "in the chunk":
        table.insert_without_gc(VMExternRef(finalizer(steal)))
    del table
    assert len(dropped) == 1 and not taken


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="collections wait for the evaluation loop from 3.12 on")
def test_repr_while_a_collection_drops_the_reference():
    class Cycle:
        pass

    thresholds = gc.get_threshold()
    try:
        for threshold in range(1, 40):
            ref = VMExternRef("one of a kind")
            cycle = Cycle()
            cycle.itself, cycle.last = cycle, finalizer(lambda ref=ref: (ref.drop(), [VMExternRef(i) for i in range(3)]))
            del cycle
            gc.set_threshold(threshold)
            text = repr(ref)
            gc.set_threshold(*thresholds)
            assert "to 'str', strong_count 1" in text
            gc.collect()
    finally:
        gc.set_threshold(*thresholds)


def test_a_root_cannot_change_those_before_it():
    """The collector knows a list that is being filled, if nobody has hidden it."""
    class Root:
        def __index__(self):
            for found in gc.get_objects():
                if type(found) is list and found == [raw]:
                    found[0] = 0
            return 0

    payload = Thing()
    weak = weakref.ref(payload)
    ref = VMExternRef(payload)
    raw = ref.as_raw()
    table = VMExternRefActivationsTable()
    table.insert_without_gc(ref)
    del payload, ref
    assert table.gc([raw, Root()]) == 0 and weak() is not None
    assert table.gc([Root()]) == 1 and weak() is None
