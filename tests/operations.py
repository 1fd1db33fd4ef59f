"""Operations of the core, and all that one may change: for files that have something go wrong in the middle of each."""

import ctypes
import functools
import gc
import sys
import weakref

import externref
import externref.ctypes
from externref import Function, VMExternRef, VMExternRefActivationsTable, _core, abi, debug
from support import TESTS, Index, one_after_the_other

sys.path.append(str(TESTS / "fuzz"))
from core import API

held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
free_drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
moved = ctypes.PYFUNCTYPE(externref.ctypes.moved, VMExternRef)(abi.clone_address)
init = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: 0)
BLOB = API["type"](b"Blob", 8, 8, None)

MOST_DROPS = 3      # of payloads that an operation makes


class Payload:
    __slots__ = "drops",        # set without an allocation

    def __init__(self, drops):
        self.drops = drops

    def __del__(self):
        self.drops[0] += 1


class Referable:
    pass


class World:
    """References of one payload, and everything that an operation may change."""

    def __init__(self):
        self.drops = [0]
        self.value = ["value"]
        self.ref = VMExternRef(self.value)
        self.raw = self.ref.clone().into_raw()
        self.lent = self.ref.as_raw()
        self.table = VMExternRefActivationsTable()
        self.identity = Function(abi.clone_address, "r", "m")
        self.many = Function(abi.clone_address, "rrrr", "m")
        self.take = Function(abi.drop_address, "m")
        self.take_with_number = Function(abi.drop_address, "mw")    # which is nobody's
        self.owned = []     # raw counts that are to be dropped
        self.counted, self.taken = self.ref.clone().into_raw(), []
        self.untold = API["new_anywhere"](BLOB, init, None)     # whose address from_raw() would not accept
        self.full, self.full_raws = [], []      # made so that nothing is left that needs no allocation

    def state(self):
        """What must be as before. Collects, and drops, what a failure left half done in an operation of several calls."""
        self.table.gc()
        self.drop_owned(held_drop)
        for ref in self.taken:
            self.counted = ref.into_raw()
        self.taken.clear()
        gc.collect(1)
        externref.drain()
        return (externref.stats()[:3], sys.getrefcount(self.value), self.ref.strong_count, len(self.table), self.ref.moved,
                _core._is_tracking(), self.drops[0])

    def move_out(self, ref):
        """into_raw(), into `owned`. No line lies between, in which an interrupt could lose the address."""
        self.owned.extend(map(VMExternRef.into_raw, [ref]))

    def back(self, ref):
        """An address that was given, accepted again."""
        self.move_out(ref)
        (ref,) = map(VMExternRef.from_raw, map(list.pop, [self.owned]))
        return ref.value is self.value

    def back_by(self, take_over):
        """A raw count, taken over by a function of the C API; state() makes one of it again."""
        self.taken.extend(map(take_over, [self.counted]))
        return self.taken[0].value is self.value

    def insert_many(self, insert):
        """Fills the table's chunk, and empties it again."""
        try:
            for _ in range(self.table.bump_capacity_remaining() + 1):
                insert(self.ref.clone())
        finally:
            self.table.gc()
        return True

    def drop_one(self, drop):
        self.move_out(VMExternRef(Payload(self.drops)))
        self.drop_owned(drop)
        return externref.drain() >= 0

    def drop_several(self, count):
        for _ in range(count):
            self.move_out(VMExternRef(Payload(self.drops)))
            self.drop_owned(free_drop)
        return externref.drain() >= 0

    def drop_owned(self, drop):
        if self.owned:
            (raw,) = self.owned
            # If dropping fails, then in ctypes, before the call.
            one_after_the_other(functools.partial(drop, raw), self.owned.clear)

    def release(self):
        for raw in [self.raw, self.counted, self.untold, *self.full_raws]:
            held_drop(raw)

    def get(self):
        return self.value

    def die(self):
        """Drops a payload whose weak reference runs Python code."""
        ref = VMExternRef(Referable())
        watch = weakref.ref(ref.value, self.note)
        ref.drop()
        return watch() is None

    def note(self, watch):
        assert watch() is None

    def track(self):
        with debug.track(guard=3) as tracker:
            ref = VMExternRef(self.value)
            self.move_out(ref.clone())
            self.drop_owned(held_drop)
            del ref
            return tracker.mistakes() == []


def is_value(world, result):
    assert result is world.value
    return True


OPERATIONS = {
    "VMExternRef": lambda w: is_value(w, VMExternRef(w.value).value),
    "clone": lambda w: is_value(w, w.ref.clone().value),
    "clone_from_raw": lambda w: is_value(w, VMExternRef.clone_from_raw(w.raw).value),
    "into_raw, from_raw": lambda w: w.back(w.ref.clone()),
    "into_raw, from_raw of a new one": lambda w: w.back(VMExternRef(w.value)),
    "as_raw": lambda w: VMExternRef(w.value).as_raw() != 0,
    "borrow": lambda w: w.ref.borrow().__enter__() == w.lent,
    "value": lambda w: is_value(w, w.ref.value),
    "strong_count": lambda w: w.ref.strong_count >= 2,
    "repr": lambda w: "VMExternRef" in repr(w.ref),
    "==": lambda w: w.ref == w.ref.clone(),
    "hash": lambda w: hash(w.ref) == hash(w.ref),
    "Function": lambda w: Function(abi.clone_address, "r", "m") is not None,
    "call": lambda w: is_value(w, w.identity(w.ref)),
    "call with objects": lambda w: is_value(w, w.many(w.value, 1, 2, 3)),
    "call.refs": lambda w: is_value(w, w.identity.refs(w.ref).value),
    "call that moves": lambda w: w.take(w.ref) is None,
    "call with a number": lambda w: w.take_with_number(w.ref, Index(1)) is None,
    "new_with": lambda w: is_value(w, VMExternRef.new_with(w.get).value),
    "finalizer": lambda w: VMExternRef(Payload(w.drops)).drop() is None,
    "weak reference": lambda w: w.die(),
    "drain of several": lambda w: w.drop_several(MOST_DROPS),
    "call without the GIL": lambda w: is_value(w, Function(abi.clone_address, "r", "m", release_gil=True)(w.ref)),
    "call by ctypes": lambda w: is_value(w, moved(w.ref).value),
    "ctypes argument of any object": lambda w: VMExternRef.from_param(w.ref) is not None,
    "wrap": lambda w: w.back_by(API["wrap"]),
    "hand_out": lambda w: API["hand_out"](w.untold) == 0 and VMExternRef.clone_from_raw(w.untold).strong_count == 2,
    "wrap_clone": lambda w: is_value(w, API["wrap_clone"](w.raw).value),
    "table": lambda w: len(VMExternRefActivationsTable()) == 0,
    "insert_without_gc": lambda w: w.insert_many(w.table.insert_without_gc),
    "insert_with_gc": lambda w: w.insert_many(w.table.insert_with_gc),
    "try_insert": lambda w: w.insert_many(w.table.try_insert),
    "dropped by compiled code": lambda w: w.drop_one(held_drop),
    "dropped without the GIL": lambda w: w.drop_one(free_drop),
    "stats": lambda w: externref.stats().live_blocks > 0,
    "drain": lambda w: externref.drain() == 0,
    "track": World.track,
    "live": lambda w: len(debug.live()) > 0,
    "describe": lambda w: "ref_count" in debug.describe(w.ref),
    "snapshot": lambda w: debug.snapshot() is not None,
}

WRITTEN_IN_PYTHON = ["track", "live", "describe", "snapshot"]      # a call of it is frames of Python's
