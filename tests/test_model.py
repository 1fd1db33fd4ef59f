"""Random operations against a plain-Python model of the counts, native ones included. Promises P1, P2, P5.

The model knows, for each allocation, how many wrappers, entries of activations tables and raw counts own
it, and so who may take what: from_raw() is refused when no raw count is left. After every step the package
must agree to the last count, and payloads must have been dropped just when the model says that nobody owns
them. A payload's finalizer comes back in and tries to take what others own.
"""

import ctypes
import gc
import sys

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

import externref
from externref import Function, InvalidRawPointerError, MovedError, VMExternRef, VMExternRefActivationsTable, abi

clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)


class Payload:
    def __init__(self, box):
        self.box = box
        box.payload_id = id(self)

    def __del__(self):
        self.box.drops += 1
        self.box.on_drop()


class Box:
    """The model of one allocation."""

    def __init__(self):
        self.wrappers = 0
        self.raws = 0
        self.tables = 0         # which have an entry of it
        self.drops = 0
        self.exposed = False
        self.address = None
        self.on_drop = lambda: None

    @property
    def handles(self):
        return self.wrappers + self.tables

    @property
    def count(self):
        return self.handles + self.raws


class Wrapper:
    """A live wrapper beside the model's box."""

    def __init__(self, ref, box):
        self.ref, self.box = ref, box
        box.wrappers += 1

    def spend(self):
        self.box.wrappers -= 1


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
        gc.collect()
        self.boxes = []
        self.base = externref.stats()
        self.table_models = [Table(), Table()]

    @rule(target=wrappers)
    def make(self):
        box = Box()
        self.boxes.append(box)
        return Wrapper(VMExternRef(Payload(box)), box)

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

    @rule(target=raws, wrapper=consumes(wrappers))
    def into_raw(self, wrapper):
        box = wrapper.box
        wrapper.spend()
        box.address = wrapper.ref.into_raw()
        box.raws += 1
        return box

    @rule(target=wrappers, box=consumes(raws))
    def from_raw(self, box):
        box.raws -= 1
        return Wrapper(VMExternRef.from_raw(box.address), box)

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
            assert wrapper.ref.strong_count == wrapper.box.count + 1
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
        box.raws -= 1
        drop(box.address)

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
            drop(box.address)
            box.raws -= 1
            return
        box.raws -= 1
        if steal and not box.raws:
            with pytest.raises(InvalidRawPointerError):
                VMExternRef.from_raw(box.address)
        model.inserted(box)

    @rule(table=st.integers(0, 1), keep=st.booleans())
    def collect_a_table(self, table, keep):
        model = self.table_models[table]
        kept = {box for box in model.boxes if keep and box.address}
        model.keep(kept)
        model.table.gc(roots=[box.address for box in kept])

    @rule(wrapper=wrappers, letter=st.sampled_from("mr"))
    def rob_an_argument_in_flight(self, wrapper, letter):
        box = wrapper.box
        box.address, box.exposed = wrapper.ref.as_raw(), True

        class Thief:
            def __index__(self):
                if not box.raws:
                    with pytest.raises(InvalidRawPointerError):
                        VMExternRef.from_raw(box.address)
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
            if box.count and not box.raws:
                with pytest.raises(InvalidRawPointerError):
                    VMExternRef.from_raw(box.address)

        wrapper.box.on_drop = rob

    @rule()
    def drain(self):
        externref.drain()

    @rule()
    def collect(self):
        gc.collect()

    @rule(wrapper=spent, use=st.sampled_from(["clone", "into_raw", "as_raw", "borrow"]))
    def use_spent(self, wrapper, use):
        with pytest.raises(MovedError):
            getattr(wrapper.ref, use)()

    @rule(index=st.integers(0, 10))
    def take_back_what_nobody_gave(self, index):
        taken = [box for box in self.boxes if box.address and not box.raws]
        for box in taken[index:index + 1]:
            if not any(other.address == box.address for other in self.boxes if other.raws):
                with pytest.raises(InvalidRawPointerError):
                    VMExternRef.from_raw(box.address)

    @invariant()
    def counts_agree(self):
        externref.drain()
        live = [box for box in self.boxes if box.count]
        stats = externref.stats()
        assert stats.live_blocks - self.base.live_blocks == len(live)
        assert stats.handles - self.base.handles == sum(box.handles for box in live)
        assert stats.exposed - self.base.exposed == sum(box.exposed or box.tables > 0 for box in live)
        assert all(box.drops == (box.count == 0) for box in self.boxes)

    @invariant()
    def every_block_agrees(self):
        for box in self.boxes:
            if box.raws:
                ref = VMExternRef.clone_from_raw(box.address)
                assert ref.strong_count == box.count + 1
                assert id(ref.value) == box.payload_id
                # Not inside the assert, which holds on to what it compared.
                references = sys.getrefcount(ref.value) - 1     # but getrefcount's argument
                assert references == box.handles + 1            # this wrapper included

    def teardown(self):
        for model in self.table_models:
            model.keep(set())
            model.table.sweep()
        for box in self.boxes:
            for _ in range(box.raws):
                drop(box.address)


Machine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
TestModel = Machine.TestCase
