"""Bytes as operations on the core, beside a plain model of its counts: what `.ci/fuzz core` runs. Promises P1 to P5.

Each byte chooses an operation, those after it what it is on. A payload's finalizer, a weak reference's callback and an
argument's __index__ go on with the same bytes, so that operations meet in the middle of others.

The model of a box: who owns it directly (wrappers, raw counts, entries of tables, open borrows, an exact number each) and which
payloads have wrappers of it. At every step outside of finalizers the package must agree: a box lives if, and only if, somebody
owns it, or a payload that lives has a wrapper of it; its count is exact.
"""

import contextlib
import ctypes
import gc
import weakref

import externref
from externref import Function, InvalidRawPointerError, MovedError, VMExternRef, VMExternRefActivationsTable, abi, debug

held_clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
free_drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
lend_and_return = Function(abi.clone_address, "rw", "m").refs
lend_and_unbox = Function(abi.clone_address, "rw", "m")
move_in = Function(abi.drop_address, "mw")

NESTED = 4      # finalizers in finalizers that go on with the bytes


def c_api():
    """The functions of externref_api.h, by name."""
    names = ["from_object", "wrap", "wrap_clone", "unwrap", "object", "type", "new_with", "release", "take_object", "type_with",
             "new_anywhere", "hand_out"]
    types = {"from_object": (ctypes.c_void_p, ctypes.py_object), "wrap": (ctypes.py_object, ctypes.c_void_p),
             "wrap_clone": (ctypes.py_object, ctypes.c_void_p), "release": (None, ctypes.c_void_p),
             "take_object": (ctypes.py_object, ctypes.c_void_p), "hand_out": (ctypes.c_int, ctypes.c_void_p),
             "type": (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p),
             "new_anywhere": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)}
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
    table = (ctypes.c_void_p * (3 + len(names))).from_address(pointer(externref._core._C_API, b"externref._core._C_API"))
    return {name: ctypes.PYFUNCTYPE(*types[name])(table[3 + i]) for i, name in enumerate(names) if name in types}


API = c_api()


class End(Exception):
    """There are no more bytes."""


class Box:
    def __init__(self):
        self.owners = 0         # wrappers, raw counts, entries and borrows
        self.raws = 0           # of these
        self.wrapped = []       # boxes that the payload has wrappers of, once for each
        self.drops = 0
        self.exposed = False    # lent for good, so that the collector leaves it alone
        self.address = None


class Payload:
    def __init__(self, run, box):
        self.run, self.box, self.refs = run, box, []

    def __del__(self):
        self.box.drops += 1
        self.run.go_on()


class Wrapper:
    def __init__(self, ref, box):
        self.ref, self.box, self.is_spent = ref, box, False


class Index:
    """An argument whose conversion goes on with the bytes."""

    def __init__(self, run):
        self.run = run

    def __index__(self):
        self.run.go_on()
        return 0


class Run:
    def __init__(self, data):
        self.data, self.at, self.depth = data, 0, 0
        self.failures = []
        self.boxes, self.wrappers, self.raws, self.borrows, self.watchers = [], [], [], [], []
        self.table, self.entries = VMExternRefActivationsTable(), []
        self.trackers = []
        self.base = externref.stats()
        self.names = sorted(name for name in vars(Run) if name.startswith("do_"))

    # -- Choosing

    def byte(self):
        if self.at == len(self.data):
            raise End
        self.at += 1
        return self.data[self.at - 1]

    def choose(self, among):
        if not among:
            raise LookupError
        return among[self.byte() % len(among)]

    def take(self, among):
        """Chooses one and takes it out, so that no finalizer has it meanwhile."""
        if not among:
            raise LookupError
        return among.pop(self.byte() % len(among))

    def step(self):
        operation = getattr(self, self.names[self.byte() % len(self.names)])
        with contextlib.suppress(LookupError):      # there is nothing to do it on
            operation()

    def go_on(self):
        """In code that runs within an operation."""
        if self.depth >= NESTED:
            return
        self.depth += 1
        try:
            for _ in range(self.byte() % 4):
                self.step()
        except End:
            pass
        except BaseException as failure:    # which would get no further than sys.unraisablehook
            self.failures.append(failure)
        finally:
            self.depth -= 1

    def all(self):
        try:
            while True:
                self.step()
                self.check()
        except End:
            pass    # its traceback has what the step had
        self.end()

    # -- The model

    def new_box(self):
        box = Box()
        self.boxes.append(box)
        return box

    def owned(self, box, ref):
        """Python's new wrapper is in the model from here on."""
        wrapper = Wrapper(ref, box)
        self.wrappers.append(wrapper)
        return wrapper

    @contextlib.contextmanager
    def using(self, box):
        """One more owner, who is about to be, or one that is on its way elsewhere."""
        box.owners += 1
        try:
            yield
        except BaseException:
            box.owners -= 1
            raise

    def spent_meanwhile(self, wrapper):
        """In a handler of MovedError: a finalizer may have spent it while it was used."""
        if not wrapper.is_spent:
            raise

    def expected(self):
        """How many owners each box has: with those whose payloads live."""
        counts = {box: box.owners for box in self.boxes}
        for box in self.boxes:
            if not box.drops:
                for other in box.wrapped:
                    counts[other] += 1
        return counts

    def check(self):
        externref.drain()
        if self.failures:
            raise self.failures[0]
        counts = self.expected()
        for box, count in counts.items():
            assert box.drops == (count == 0), (box.drops, count)
        stats = externref.stats()
        assert stats.live_blocks - self.base.live_blocks == sum(count > 0 for count in counts.values())
        assert stats.handles - self.base.handles == sum(counts.values()) - sum(box.raws for box in self.boxes)
        assert stats.pending_drops == self.base.pending_drops
        for wrapper in self.wrappers:
            assert wrapper.ref.strong_count == counts[wrapper.box]
            assert wrapper.ref.value.box is wrapper.box

    def end(self):
        while self.trackers:
            self.do_untrack()
        self.at = len(self.data)
        while self.borrows:
            self.end_borrow()
        self.watchers.clear()
        self.wrappers.clear()
        del self.table
        for box in self.boxes:
            if box.exposed and box.wrapped and not box.drops:
                VMExternRef.clone_from_raw(box.address).value.refs.clear()
        for box in self.raws:
            held_drop(box.address)
        gc.collect()
        externref.drain()
        if self.failures:
            raise self.failures[0]
        assert [box.drops for box in self.boxes] == [1] * len(self.boxes)
        assert externref.stats() == self.base

    # -- Operations

    def do_make(self):
        box = self.new_box()
        with self.using(box):
            self.owned(box, VMExternRef(Payload(self, box)))

    def do_clone(self):
        wrapper = self.choose(self.wrappers)
        try:
            with self.using(wrapper.box):
                self.owned(wrapper.box, wrapper.ref.clone())
        except MovedError:
            self.spent_meanwhile(wrapper)

    def spend(self):
        wrapper = self.take(self.wrappers)
        wrapper.is_spent = True
        return wrapper

    def do_drop(self):
        wrapper = self.spend()
        wrapper.box.owners -= 1
        wrapper.ref.drop()
        for use in (wrapper.ref.clone, wrapper.ref.into_raw, wrapper.ref.as_raw, lambda: move_in(wrapper.ref, 0)):
            self.refused(MovedError, use)

    def do_delete(self):
        wrapper = self.spend()
        wrapper.box.owners -= 1
        del wrapper.ref

    def do_into_raw(self):
        wrapper = self.spend()
        wrapper.box.address = wrapper.ref.into_raw()
        wrapper.box.raws += 1
        self.raws.append(wrapper.box)

    def do_from_raw(self):
        box = self.take(self.raws)
        box.raws -= 1
        self.owned(box, VMExternRef.from_raw(box.address))

    def do_wrap(self):
        box = self.take(self.raws)
        box.raws -= 1
        self.owned(box, API["wrap"](box.address))

    def do_clone_from_raw(self):
        box = self.take(self.raws)      # for the time of the call: it must not be dropped in it
        with self.using(box):
            self.owned(box, VMExternRef.clone_from_raw(box.address))
        self.raws.append(box)

    def do_wrap_clone(self):
        box = self.take(self.raws)
        with self.using(box):
            self.owned(box, API["wrap_clone"](box.address))
        self.raws.append(box)

    def do_compiled_clone(self):
        box = self.choose(self.raws)
        held_clone(box.address)
        box.owners += 1
        box.raws += 1
        self.raws.append(box)

    def drop_by(self, drop):
        box = self.take(self.raws)
        box.raws -= 1
        box.owners -= 1
        drop(box.address)

    def do_compiled_drop(self):
        self.drop_by(held_drop)

    def do_compiled_drop_without_the_gil(self):
        self.drop_by(free_drop)

    def do_release(self):
        self.drop_by(API["release"])

    def do_take_object(self):
        self.drop_by(API["take_object"])

    def do_from_object(self):
        box = self.new_box()
        box.owners += 1
        box.raws += 1
        box.address = API["from_object"](Payload(self, box))
        self.raws.append(box)

    def do_as_raw(self):
        wrapper = self.choose(self.wrappers)
        wrapper.box.address, wrapper.box.exposed = wrapper.ref.as_raw(), True

    def do_borrow(self):
        wrapper = self.choose(self.wrappers)
        try:
            with self.using(wrapper.box):
                ref = wrapper.ref.clone()
                borrow = ref.borrow()       # which keeps its wrapper
                wrapper.box.address = borrow.__enter__()
                ref.drop()
                self.borrows.append((borrow, wrapper.box))
        except MovedError:
            self.spent_meanwhile(wrapper)

    def end_borrow(self):
        borrow, box = self.take(self.borrows) if self.at < len(self.data) else self.borrows.pop()
        box.owners -= 1
        borrow.__exit__(None, None, None)

    do_end_borrow = end_borrow

    def do_keep_in_a_payload(self):
        owner = self.choose(self.wrappers)
        wrapper = self.spend()      # perhaps the same
        wrapper.box.owners -= 1
        owner.box.wrapped.append(wrapper.box)
        owner.ref.value.refs.append(wrapper.ref)
        del wrapper.ref

    def do_insert(self):
        """Moved into the table."""
        wrapper = self.spend()
        self.entries.append(wrapper.box)
        self.table.insert_without_gc(wrapper.ref)
        self.settle()

    def do_insert_clone(self):
        wrapper = self.choose(self.wrappers)
        if self.table.bump_capacity_remaining() == 0:
            raise LookupError       # it would collect
        wrapper.box.owners += 1
        self.entries.append(wrapper.box)
        self.table.insert_with_gc(wrapper.ref)
        self.settle()

    def do_insert_as_compiled_code(self):
        if self.table.bump_capacity_remaining() == 0:
            raise LookupError
        box = self.take(self.raws)
        box.raws -= 1
        place = ctypes.c_size_t.from_address(self.table.address + abi.ACTIVATIONS_NEXT_OFFSET)
        ctypes.c_size_t.from_address(place.value).value = box.address
        place.value += ctypes.sizeof(ctypes.c_size_t)
        self.entries.append(box)
        self.settle()

    def settle(self):
        """Empties the chunk into the table's set, which gives up a second count of what it has."""
        for box in set(self.entries):
            while self.entries.count(box) > 1:
                self.entries.remove(box)
                box.owners -= 1
        self.table.insert_precise_stack_root(0)

    def do_collect_table(self):
        keep = self.byte()
        roots = [box for i, box in enumerate(self.entries) if keep >> i % 8 & 1 and box.address]
        gone, self.entries = [box for box in self.entries if box not in roots], roots
        for box in gone:
            box.owners -= 1
        self.table.gc(roots=[box.address for box in roots])

    def do_call(self):
        wrapper = self.choose(self.wrappers)
        argument = Index(self) if self.byte() & 1 else 0
        try:
            with self.using(wrapper.box):
                self.owned(wrapper.box, lend_and_return(wrapper.ref, argument))
        except MovedError:
            self.spent_meanwhile(wrapper)

    def do_call_that_unboxes(self):
        wrapper = self.choose(self.wrappers)
        try:
            assert lend_and_unbox(wrapper.ref, Index(self) if self.byte() & 1 else 0).box is wrapper.box
        except MovedError:
            self.spent_meanwhile(wrapper)

    def do_call_with_any_object(self):
        box = self.new_box()
        assert lend_and_unbox(Payload(self, box), 0).box is box

    def do_move_in(self):
        wrapper = self.choose(self.wrappers)
        try:
            move_in(wrapper.ref, Index(self) if self.byte() & 1 else 0)     # a clone of what was passed
        except MovedError:
            self.spent_meanwhile(wrapper)

    def do_watch(self):
        wrapper = self.choose(self.wrappers)
        self.watchers.append(weakref.ref(wrapper.ref, lambda _: self.go_on()))

    def do_drain(self):
        externref.drain()

    def do_collect(self):
        begun = -1
        while begun != self.at:     # else what finalizers made may be garbage, too
            begun = self.at
            gc.collect()
            externref.drain()
        if self.depth:
            return
        alive = {box for box in self.boxes if not box.drops}
        reached, rest = set(), [box for box in alive if box.owners or box.exposed]
        while rest:
            box = rest.pop()
            if box not in reached:
                reached.add(box)
                rest += box.wrapped
        assert alive == reached

    def do_track(self):
        self.trackers.append(debug.track(guard=self.byte(), frames=2).__enter__())

    def do_untrack(self):
        tracker = self.trackers.pop()
        assert tracker.mistakes() == []
        tracker.__exit__(None, None, None)

    def do_describe(self):
        debug.describe(self.choose(self.wrappers).ref)

    # -- What is refused

    def refused(self, error, use):
        try:
            use()
        except error:
            return
        raise AssertionError(f"{use} was not refused")

    def do_rob(self):
        """Takes what nobody gave away."""
        box = self.choose([box for box in self.boxes if box.address and not box.raws])
        if any(other.address == box.address for other in self.boxes if other.raws):
            raise LookupError       # the address is another's by now
        self.refused(InvalidRawPointerError, lambda: VMExternRef.from_raw(box.address))

    def do_guess(self):
        address = int.from_bytes(bytes(self.byte() for _ in range(self.byte() % 8 + 1)), "little")
        if address in {box.address for box in self.boxes}:
            raise LookupError
        self.refused(InvalidRawPointerError, lambda: VMExternRef.from_raw(address))
        self.refused(InvalidRawPointerError, lambda: VMExternRef.clone_from_raw(address))


def run(data):
    """Raises AssertionError, or what an operation raised that it should not have."""
    was_enabled = gc.isenabled()
    gc.disable()        # cycles are collected when the bytes say so
    gc.freeze()         # and what was there before is not looked at
    try:
        Run(data).all()
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
