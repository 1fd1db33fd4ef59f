"""A plain-Python model of the counts, and random operations against it: what test_model*.py run.

The model knows, for each allocation, how many wrappers, entries of activations tables, holds of stores and
raw counts own it, and so who may take what: from_raw() is refused when no raw count is left. After every
step the package must agree, and payloads must have been dropped just when the model says that nobody owns
them. A payload's finalizer comes back in and tries to take what others own.

Counts are exact but for two things, which have bounds: a store may keep what it no longer refers to until
its next collection, and a native thread that clones and drops has one count more or not.

150 programs of each machine, or, with $EXTERNREF_MODEL_SECONDS, as many as so many seconds are enough for, and figures are
printed (pytest -s).
"""

import ctypes
import gc
import os
import sys
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import externref
from externref import Function, InvalidRawPointerError, MovedError, VMExternRef, VMExternRefActivationsTable, abi

SECONDS = float(os.environ.get("EXTERNREF_MODEL_SECONDS", 0))

clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)


class Payload:
    def __init__(self, box):
        self.box = box
        self.ties = []      # wrappers of its own box
        box.payload_id = id(self)

    def __del__(self):
        self.box.drops += 1
        try:
            self.box.on_drop()
        except BaseException as failure:    # which would get no further than sys.unraisablehook
            self.box.failure = failure


class Box:
    """The model of one allocation."""

    def __init__(self):
        self.wrappers = []
        self.raws = 0
        self.tables = 0         # which have an entry of it
        self.kept = 0           # holds that stores have for what they refer to
        self.passed = 0         # holds that stores may have
        self.tied = 0           # wrappers that its own payload has: a cycle
        self.hammered = False   # a native thread may have one count more
        self.drops = 0
        self.exposed = False
        self.address = None
        self.on_drop = lambda: None
        self.failure = None

    @property
    def owned(self):
        """Whether somebody owns it for certain. The collector leaves a cycle through what is exposed alone."""
        return bool(self.wrappers or self.raws or self.tables or self.kept or (self.exposed and self.tied))

    @property
    def live(self):
        return self.owned or (bool(self.passed or self.tied) and not self.drops)

    @property
    def handles(self):
        """The least and the most that there can be while it lives."""
        sure = len(self.wrappers) + self.tables + self.tied
        return max(sure + self.kept, 1 - self.raws), sure + self.passed

    @property
    def may_be_taken(self):
        """Whether from_raw() may find a raw count."""
        return self.raws > 0 or self.hammered

    def rob(self):
        """Tries to take a count, which is refused unless somebody owns a raw one."""
        if self.may_be_taken:
            return
        try:
            stolen = VMExternRef.from_raw(self.address)
        except InvalidRawPointerError:
            return
        stolen.into_raw()       # so that nothing but this goes wrong
        raise AssertionError("from_raw() took what is no raw owner's")

    def check_count(self, count):
        least, most = self.handles
        assert least + self.raws <= count <= most + self.raws + self.hammered


class Wrapper:
    """A live wrapper beside the model's box."""

    def __init__(self, ref, box):
        self.ref, self.box = ref, box
        box.wrappers.append(self)

    def spend(self):
        self.box.wrappers.remove(self)


class Table:
    """An activations table, emptied into its set after every insertion, and the boxes that it has."""

    def __init__(self):
        self.table = VMExternRefActivationsTable()
        self.address = self.table.address
        self.boxes = set()

    def inserted(self, box):
        self.table.insert_precise_stack_root(0)     # a second count of an entry is given up
        if box not in self.boxes:
            self.boxes.add(box)
            box.tables += 1

    def insert_as_compiled_code(self, box):
        if self.table.bump_capacity_remaining() == 0:
            return False
        place = ctypes.c_size_t.from_address(self.address + abi.ACTIVATIONS_NEXT_OFFSET)
        ctypes.c_size_t.from_address(place.value).value = box.address
        place.value += ctypes.sizeof(ctypes.c_size_t)
        return True

    def keep(self, kept):
        for box in self.boxes - kept:
            box.tables -= 1
        self.boxes &= kept


class Machine(RuleBasedStateMachine):
    wrappers = Bundle("wrappers")
    spent = Bundle("spent")
    raws = Bundle("raws")       # boxes, one entry for each raw count

    def __init__(self):
        super().__init__()
        gc.disable()            # cycles are collected when a rule or a finalizer says so
        self.boxes = []
        self.base = externref.stats()
        self.table_models = [Table(), Table()]

    def new_payload(self):
        box = Box()
        self.boxes.append(box)
        return Payload(box)

    @initialize(target=wrappers)
    def make_some(self):
        return multiple(*[self.make() for _ in range(3)])

    @initialize(target=raws)
    def give_one_away(self):
        return self.into_raw(self.make())

    @rule(target=wrappers)
    def make(self):
        payload = self.new_payload()
        return Wrapper(VMExternRef(payload), payload.box)

    @rule(target=wrappers, wrapper=wrappers)
    def clone(self, wrapper):
        return Wrapper(wrapper.ref.clone(), wrapper.box)

    @rule(wrapper=consumes(wrappers))
    def delete(self, wrapper):
        wrapper.spend()
        del wrapper.ref

    @rule(target=spent, wrapper=consumes(wrappers))
    def drop(self, wrapper):
        wrapper.spend()
        wrapper.ref.drop()
        return wrapper

    @rule(wrapper=consumes(wrappers))
    def tie(self, wrapper):
        wrapper.box.tied += 1
        wrapper.spend()
        wrapper.ref.value.ties.append(wrapper.ref)
        del wrapper.ref

    @rule(target=raws, wrapper=consumes(wrappers))
    def into_raw(self, wrapper):
        box = wrapper.box
        box.address = wrapper.ref.into_raw()
        wrapper.spend()
        box.raws += 1
        return box

    @rule(target=wrappers, box=consumes(raws))
    def from_raw(self, box):
        wrapper = Wrapper(VMExternRef.from_raw(box.address), box)
        box.raws -= 1
        return wrapper

    @rule(target=wrappers, box=raws)
    def clone_from_raw(self, box):
        return Wrapper(VMExternRef.clone_from_raw(box.address), box)

    @rule(wrapper=wrappers)
    def as_raw(self, wrapper):
        wrapper.box.address = wrapper.ref.as_raw()
        wrapper.box.exposed = True

    @rule(wrapper=wrappers)
    def borrow(self, wrapper):
        with wrapper.ref.borrow() as address:
            wrapper.box.check_count(wrapper.ref.strong_count - 1)
            drop(clone(address))

    @rule(target=raws, wrapper=wrappers)
    def native_clone_of_a_lent_pointer(self, wrapper):
        self.as_raw(wrapper)
        clone(wrapper.box.address)
        wrapper.box.raws += 1
        return wrapper.box

    @rule(target=raws, box=consumes(raws))
    def native_clone(self, box):
        clone(box.address)
        box.raws += 1
        return multiple(box, box)

    @rule(box=consumes(raws))
    def native_drop(self, box):
        drop(box.address)
        box.raws -= 1

    @rule(wrapper=consumes(wrappers), table=st.integers(0, 1))
    def move_into_a_table(self, wrapper, table):
        wrapper.spend()
        self.table_models[table].table.insert_without_gc(wrapper.ref)
        self.table_models[table].inserted(wrapper.box)

    @rule(wrapper=wrappers, table=st.integers(0, 1))
    def clone_into_a_table(self, wrapper, table):
        wrapper.box.address = wrapper.ref.as_raw()
        wrapper.box.exposed = True
        self.table_models[table].table.insert_with_gc(wrapper.ref)
        self.table_models[table].inserted(wrapper.box)

    @rule(box=consumes(raws), table=st.integers(0, 1), steal=st.booleans())
    def move_into_a_table_as_compiled_code(self, box, table, steal):
        model = self.table_models[table]
        if not model.insert_as_compiled_code(box):
            self.native_drop(box)
            return
        box.raws -= 1
        if steal:
            box.rob()
        model.inserted(box)

    @precondition(lambda self: any(model.boxes for model in self.table_models))
    @rule(table=st.integers(0, 1), keep=st.booleans())
    def collect_a_table(self, table, keep):
        model = self.table_models[table]
        kept = {box for box in model.boxes if (keep and box.address) or box.hammered}
        model.keep(kept)
        model.table.gc(roots=[box.address for box in kept])

    @rule(wrapper=wrappers, letter=st.sampled_from("mr"))
    def rob_an_argument_in_flight(self, wrapper, letter):
        box = wrapper.box
        box.address, box.exposed = wrapper.ref.as_raw(), True

        class Thief:
            def __index__(self):
                box.rob()
                return 0

        if letter == "m":
            Function(abi.drop_address, "mw")(wrapper.ref, Thief())
        else:
            Function(abi.clone_address, "rw", "m")(wrapper.ref, Thief())

    @rule(target=wrappers, wrapper=wrappers)
    def through_compiled_code_and_back(self, wrapper):
        wrapper.box.address = wrapper.ref.as_raw()
        wrapper.box.exposed = True
        return Wrapper(Function(abi.clone_address, "r", "m").refs(wrapper.ref), wrapper.box)

    @rule(wrapper=wrappers, other=wrappers)
    def a_finalizer_that_robs(self, wrapper, other):
        other.box.address, other.box.exposed = other.ref.as_raw(), True

        def rob(box=other.box):
            if box.owned:
                box.rob()

        wrapper.box.on_drop = rob

    @rule(wrapper=wrappers)
    def a_finalizer_that_collects(self, wrapper):
        wrapper.box.on_drop = gc.collect

    @precondition(lambda self: any(box.live for box in self.boxes))
    @rule()
    def collect(self):
        for box in self.boxes:
            if not box.owned and not box.passed:
                box.tied = 0
        gc.collect()

    @rule(wrapper=spent, use=st.sampled_from(["clone", "into_raw", "as_raw", "borrow"]))
    def use_spent(self, wrapper, use):
        with pytest.raises(MovedError):
            getattr(wrapper.ref, use)()

    @precondition(lambda self: any(box.address for box in self.boxes))
    @rule(index=st.integers(0, 10))
    def take_back_what_nobody_gave(self, index):
        taken = [box for box in self.boxes if box.address and not box.may_be_taken]
        for box in taken[index:index + 1]:
            if not any(other.address == box.address for other in self.boxes if other.may_be_taken):
                box.rob()

    @invariant()
    def counts_agree(self):
        externref.drain()
        live = [box for box in self.boxes if box.live]
        stats = externref.stats()
        least, most = map(sum, zip(*[box.handles for box in live], (0, 0), strict=True))
        assert stats.live_blocks - self.base.live_blocks == len(live)
        assert least <= stats.handles - self.base.handles <= most
        assert stats.exposed - self.base.exposed == sum(box.exposed or box.tables > 0 for box in live)
        assert all(box.drops == (not box.live) for box in self.boxes)
        assert [box.failure for box in self.boxes if box.failure] == []

    @invariant()
    def every_block_agrees(self):
        for box in self.boxes:
            if box.owned and box.address:
                ref = VMExternRef.clone_from_raw(box.address)
                box.check_count(count := ref.strong_count - 1)
                assert id(ref.value) == box.payload_id
                assert len(ref.value.ties) == box.tied      # no collector cleared it
                # Not inside the assert, which holds on to what it compared.
                references = sys.getrefcount(ref.value) - 2     # but getrefcount's argument, and this wrapper's
                least, most = box.handles
                assert least <= references <= most
                assert box.hammered or references == count - box.raws

    def teardown(self):
        for model in self.table_models:
            model.keep(set())
            model.table.sweep()
        for box in self.boxes:
            if box.tied and box.exposed:
                VMExternRef.clone_from_raw(box.address).value.ties.clear()
            for _ in range(box.raws):
                drop(box.address)
            for wrapper in box.wrappers:
                del wrapper.ref
        gc.collect()
        gc.enable()
        externref.drain()
        assert externref.stats() == self.base


class MachineWithThread(Machine):
    """A thread that Python does not know clones and drops one pointer, while rules run."""

    def __init__(self, foreign):
        super().__init__()
        self.foreign = foreign
        self.hammered = None        # the box
        self.owned_count = False    # whether the thread owns a raw count of it, or a table lends it

    def hammer(self, box, owned_count):
        self.hammered, self.owned_count = box, owned_count
        box.hammered = True
        assert self.foreign.start_hammering(box.address) == 0

    @precondition(lambda self: self.hammered is None)
    @rule(wrapper=consumes(Machine.wrappers), table=st.integers(0, 1))
    def hammer_what_a_table_lends(self, wrapper, table):
        with wrapper.ref.borrow() as address:
            wrapper.box.address = address       # and nothing but the table lends it
        self.move_into_a_table(wrapper, table)
        self.hammer(wrapper.box, False)

    @precondition(lambda self: self.hammered is None)
    @rule(box=consumes(Machine.raws))
    def hammer_what_the_thread_owns(self, box):
        self.hammer(box, True)

    @precondition(lambda self: self.hammered is not None)
    @rule(target=Machine.raws, give_back=st.booleans())
    def stop_hammering(self, give_back=False):
        box, self.hammered = self.hammered, None
        assert self.foreign.stop_hammering() == 0
        box.hammered = False
        if not self.owned_count:
            return multiple()
        if give_back:
            return box
        assert self.foreign.drop_on_thread(box.address) == 0
        box.raws -= 1
        return multiple()

    def teardown(self):
        if self.hammered is not None:
            self.stop_hammering()
        super().teardown()


def run(machine, *args):
    """Runs random programs on machine(*args)."""
    start, programs = time.monotonic(), 0

    def make():
        nonlocal programs
        programs += 1
        gc.collect()
        gc.freeze()     # a program's collections need not look at what is hypothesis's, which is much
        return machine(*args)

    while not programs or time.monotonic() < start + SECONDS:
        run_state_machine_as_test(make, settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)))
    print(f"{machine.__name__}: {programs} programs in {time.monotonic() - start:.0f} s")
