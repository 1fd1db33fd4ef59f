"""A store that is closed, or that is not to be closed now. Promise P5."""

import pytest

from externref import wasm2c

CLOSED = """(module (table (export "t") 2 externref) (global (export "g") (mut externref) (ref.null extern))
  (memory (export "m") 1) (func (export "id") (param externref) (result externref) (local.get 0)))"""


def test_closing_releases_everything(compile, make_payload):
    dropped = []
    store = wasm2c.Store()
    instance = compile(CLOSED).instantiate(store)
    exports = instance.exports
    exports.t[0] = make_payload(dropped, 0)
    exports.g.value = make_payload(dropped, 1)
    exports.id(make_payload(dropped, 2))
    store.close()
    assert sorted(dropped) == [0, 1, 2]
    store.close()
    for act in (lambda: exports.id(1), lambda: exports.id.refs(1), store.gc, store.__enter__, lambda: exports.t[0], lambda: len(exports.t),
                lambda: exports.t.grow(1), lambda: exports.t.fill(0, 1, 1), lambda: exports.g.value, lambda: exports.g.ref,
                lambda: setattr(exports.g, "value", 1), lambda: exports.t.__setitem__(0, 1), lambda: memoryview(exports.m),
                lambda: len(exports.m), lambda: exports.m.grow(1), lambda: compile(CLOSED).instantiate(store)):
        with pytest.raises(ValueError, match="the store is already closed"):
            act()
    assert store.closed


def test_a_store_is_not_closed_from_within(references, store):
    def call(ref, number):
        with pytest.raises(RuntimeError, match="in use: it cannot be closed from within a call"):
            store.close()
        return ref

    exports = references(call)
    assert exports.hold(1, 2, 3) == (1, 2)
