"""A store that is closed, in use by another thread, or not to be closed now. Promise P5."""

import threading

import pytest

import externref
from support import in_thread

# Everything that goes into the store.
USES = {
    "call": lambda made: made.i32(1),
    "refs": lambda made: made.externref.refs(1),
    "len": lambda made: len(made.t),
    "element": lambda made: made.t[0],
    "no element": lambda made: made.t[9],
    "elements": lambda made: made.t[:],
    "list": lambda made: list(made.t),
    "set element": lambda made: made.t.__setitem__(0, 1),
    "set elements": lambda made: made.t.__setitem__(slice(0, 2), [1, 2]),
    "ref": lambda made: made.t.ref(0),
    "fill": lambda made: made.t.fill(0, 1, 1),
    "grow": lambda made: made.t.grow(1),
    "no growth": lambda made: made.t.grow(-1),
    "table type": lambda made: made.t.type,
    "value": lambda made: made.g_externref.value,
    "set value": lambda made: setattr(made.g_externref, "value", 1),
    "global ref": lambda made: made.g_externref.ref,
    "size": lambda made: len(made.m),
    "read": lambda made: made.m.read(0, 1),
    "read nothing": lambda made: made.m.read(-1),
    "write": lambda made: made.m.write(b"x"),
    "byte": lambda made: made.m[0],
    "bytes": lambda made: made.m[0:1],
    "all bytes": lambda made: bytes(made.m),
    "next byte": lambda made: next(iter(made.m)),
    "set byte": lambda made: made.m.__setitem__(0, 1),
    "set bytes": lambda made: made.m.__setitem__(slice(0, 1), b"x"),
    "pages": lambda made: made.m.grow(0),
    "no pages": lambda made: made.m.grow(-1),
    "memory type": lambda made: made.m.type,
    "unknown function": lambda made: made.unknown(1),
}
TAKE_NUMBERS = {
    "element": lambda made, number: made.t[number],
    "elements": lambda made, number: made.t[number:],
    "set element": lambda made, number: made.t.__setitem__(number, 1),
    "set elements": lambda made, number: made.t.__setitem__(slice(number, 1), [1]),
    "ref": lambda made, number: made.t.ref(number),
    "fill": lambda made, number: made.t.fill(0, 1, number),
    "grow": lambda made, number: made.t.grow(number),
    "read": lambda made, number: made.m.read(number),
    "write": lambda made, number: made.m.write(b"x", number),
    "byte": lambda made, number: made.m[number],
    "bytes": lambda made, number: made.m[number:1],
    "set byte": lambda made, number: made.m.__setitem__(0, number),
    "set bytes": lambda made, number: made.m.__setitem__(slice(number, 1), b"x"),
    "pages": lambda made, number: made.m.grow(number),
}
# What is known without it.
KNOWN = {
    "name": lambda made: made.i32.name == made.i32.__name__ == "i32",
    "type": lambda made: made.i32.type == (("i32",), ("i32",)),
    "global type": lambda made: made.g_i32.type == ("i32", True),
    "store": lambda made: made.i32.store is made.t.store is made.g_i32.store is made.m.store is made.store,
    "exports": lambda made: dict(made.exports)["i32"] is made.exports.i32,
    "release_gil": lambda made: made.i32.release_gil is False,
    "repr": lambda made: "'i32' (i32) -> (i32)" in repr(made.i32),
    "arguments": lambda made: refused(lambda: made.i32(), TypeError, "takes 1 arguments"),
    "keywords": lambda made: refused(lambda: made.i32(x=1), TypeError, "no keyword arguments"),
    "immutable": lambda made: refused(lambda: setattr(made.fixed, "value", 1), TypeError, "immutable"),
    "no reference": lambda made: refused(lambda: made.g_i32.ref, TypeError, "value is i32"),
    "no index": lambda made: refused(lambda: made.t["x"], TypeError, "integer"),
    "no offset": lambda made: refused(lambda: made.m.read("x"), TypeError, "integer"),
}


def refused(use, error, words):
    with pytest.raises(error, match=words):
        use()
    return True


@pytest.mark.parametrize("use", USES)
def test_closed(made, use, counted):
    made.unknown = made.funcs[0]
    made.t[0], made.g_externref.value = counted(), counted()
    made.externref(counted())
    made.store.close()
    externref.drain()
    assert counted.dropped() == 3
    for _ in range(2):
        refused(lambda: USES[use](made), ValueError, "^the store is already closed$")
    made.store.close()


@pytest.mark.parametrize("use", TAKE_NUMBERS)
def test_closed_by_a_number_meanwhile(made, use):
    """Numbers are converted before the store is entered."""
    class Closing:
        def __index__(self):
            made.store.close()
            return 0

    refused(lambda: TAKE_NUMBERS[use](made, Closing()), ValueError, "^the store is already closed$")


@pytest.mark.parametrize("use", KNOWN)
def test_what_is_known_of_a_closed_store(made, use):
    made.store.close()
    assert KNOWN[use](made)


@pytest.mark.parametrize("use", [*USES, "close"])
def test_in_use_by_another_thread(make, use):
    raised = []
    made = make(none=lambda: raised.append(in_thread(lambda: made.store.close() if use == "close" else USES[use](made))))
    made.unknown = made.funcs[0]
    for release_gil in (False, True):
        made["call"].release_gil = release_gil
        made["call"]()
        failure = raised.pop()
        assert (type(failure), str(failure)) == (RuntimeError, "the store is in use by another thread")
    assert list(made.t) == [None] * 4 and len(made.m) == 65536 and made.m[0] == 0 and made.g_externref.value is None
    assert in_thread(lambda: made.i32(1)) is None   # and afterwards all is as it was


@pytest.mark.parametrize("use", KNOWN)
def test_what_is_known_of_a_store_in_use(make, use):
    raised = []

    def look():
        assert KNOWN[use](made)

    made = make(none=lambda: raised.append(in_thread(look)))
    made["call"]()
    assert raised == [None]


def test_in_use_without_the_gil(make):
    """Another thread meets it in the middle of compiled code, not in a host function."""
    inside = threading.Event()
    made = make(none=inside.set)
    made["call"].release_gil = True
    refusals = []

    def use_it():
        while not stopped.is_set():
            try:
                made.double(1)
            except RuntimeError as failure:
                refusals.append(str(failure))

    stopped = threading.Event()
    thread = threading.Thread(target=use_it)
    thread.start()
    try:
        for _ in range(3000):
            try:
                made["call"]()
            except RuntimeError as failure:
                refusals.append(str(failure))
    finally:
        stopped.set()
        thread.join(10)
    assert set(refusals) <= {"the store is in use by another thread"} and made.double(4) == 8


def test_a_repr_never_raises(make):
    made = make(none=lambda: seen.append(in_thread(lambda: reprs.extend(map(repr, items)))))
    items = [made.t, made.m, made.g_i32, made.double, made.funcs[0]]
    reprs, seen = [], []
    made["call"]()
    in_use = "the store is in use by another thread"
    assert seen == [None] and reprs[:4] == [
        f"<{made.name}.Table: {in_use}>", f"<{made.name}.Memory: {in_use}>", f"<{made.name}.Global: mutable global of i32>",
        f"<{made.name}.Func 'double' (i32) -> (i32)>"] and "Func 'funcref' " in reprs[4]
    unknown = made.funcs[0]
    made.store.close()
    closed = "the store is already closed"
    assert [repr(item) for item in items[:3]] == [
        f"<{made.name}.Table: {closed}>", f"<{made.name}.Memory: {closed}>", f"<{made.name}.Global: mutable global of i32>"]
    assert "Func 'funcref' " in repr(unknown)


@pytest.mark.parametrize("how", ["a host function", "an argument", "a value"])
def test_closing_from_within(make, how):
    class Closing:
        def __index__(self):
            made.store.close()
            return 1

    made = make(none=lambda: made.store.close())
    if how == "a host function":
        refused(made["call"], RuntimeError, "^the store is in use: it cannot be closed from within a call$")
    elif made.name == "externref.wasmtime":     # its conversions are within the call
        use = made.double if how == "an argument" else lambda value: setattr(made.g_i32, "value", value)
        refused(lambda: use(Closing()), RuntimeError, "^the store is in use: it cannot be closed from within a call$")
    else:
        use = made.double if how == "an argument" else lambda value: setattr(made.g_i32, "value", value)
        refused(lambda: use(Closing()), ValueError, "^the store is already closed$")
        return
    assert made.double(4) == 8


@pytest.mark.parametrize("name", ["i32", "t", "g_i32", "m"])
def test_an_item_keeps_its_store(make, name):
    made = make()
    item, store = made[name], made.store
    made.__dict__.clear()
    assert item.store is store
    assert {"i32": lambda: item(1), "t": lambda: len(item), "g_i32": lambda: item.value, "m": lambda: len(item)}[name]() is not None
