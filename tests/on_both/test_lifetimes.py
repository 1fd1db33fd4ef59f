"""Who owns what goes in, and until when: the counts are exact after each operation, and after each that fails. Promises P1, P2."""

import pytest

from externref import InvalidRawPointerError, MovedError, VMExternRef
from support import Calling, in_thread


def spent():
    ref = VMExternRef(1)
    ref.drop()
    return ref


# What is done with a reference, or with its object, and what it raises.
OPERATIONS = {
    "a call": (lambda made, x: made.externref(x), None),
    "a call for references": (lambda made, x: made.externref.refs(x), None),
    "twice in a call": (lambda made, x: made.swap(x, x), None),
    "a call without the GIL": (lambda made, x: made.unlocked(x), None),
    "a call by a value": (lambda made, x: made.all(1, 2, 3, 4, bytes(16), x, made.externref)[0](x), None),
    "too many arguments": (lambda made, x: made.externref(x, x), TypeError),
    "keywords": (lambda made, x: made.externref(x=x), TypeError),
    "a later argument of a wrong type": (lambda made, x: made.late(x, "x", x), TypeError),
    "a later argument out of range": (lambda made, x: made.late(x, 2**40, x), OverflowError),
    "a later argument that is spent": (lambda made, x: made.swap(x, spent()), MovedError),
    "a trap": (lambda made, x: made.unreachable(x), "Trap"),
    "a host function's result": (lambda made, x: made.host_externref(), None),
    "a host function's argument": (lambda made, x: made.all(1, 2, 3, 4, bytes(16), x, None), None),
    "a host function's second result": (lambda made, x: made.two(), None),
    "an element": (lambda made, x: made.t.__setitem__(0, x), None),
    "an element by code": (lambda made, x: made.save(1, x), None),
    "an element out of bounds": (lambda made, x: made.t.__setitem__(9, x), IndexError),
    "read": (lambda made, x: (made.t.__setitem__(0, x), made.t[0], made.t.ref(0), made.load(0), list(made.t), x in made.t), None),
    "elements": (lambda made, x: made.t.__setitem__(slice(0, 3), [x, 1, x]), None),
    "elements, too many": (lambda made, x: made.t.__setitem__(slice(0, 3), [x] * 4), ValueError),
    "elements, one of them spent": (lambda made, x: made.t.__setitem__(slice(0, 3), [x, spent(), x]), MovedError),
    "filled": (lambda made, x: made.t.fill(0, x, 3), None),
    "filled out of bounds": (lambda made, x: made.t.fill(0, x, 9), IndexError),
    "grown": (lambda made, x: made.t.grow(2, x), None),
    "not grown": (lambda made, x: made.t.grow(9, x), ValueError),
    "not grown by a negative number": (lambda made, x: made.t.grow(-1, x), ValueError),
    "a function in its place": (lambda made, x: made.funcs.__setitem__(0, x), TypeError),
    "a global": (lambda made, x: (setattr(made.g_externref, "value", x), made.g_externref.value, made.g_externref.ref), None),
    "a global of numbers": (lambda made, x: setattr(made.g_i32, "value", x), TypeError),
    "an immutable global": (lambda made, x: setattr(made.fixed, "value", x), TypeError),
    "a byte": (lambda made, x: made.m.__setitem__(0, x), TypeError),
    "bytes": (lambda made, x: made.m.write(x), TypeError),
}


@pytest.mark.parametrize("what", ["a reference", "an object"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_counts_are_exact(make, counted, operation, what):
    act, error = OPERATIONS[operation]
    ref = VMExternRef(counted())
    given = [ref if what == "a reference" else ref.value]
    made = make(externref=lambda: given[0], two=lambda: (1, given[0]))
    made.unlocked = made.exports_of('(module (func (export "f") (param externref) (result externref) (local.get 0)))').f
    made.unlocked.release_gil = True
    for _ in range(3):
        if error is None:
            act(made, given[0])
        else:
            with pytest.raises(made.Trap if error == "Trap" else error):
                act(made, given[0])
    made.collect()
    is_kept = any(element is ref.value for element in [*made.t, made.g_externref.value])
    assert (ref.strong_count > 1) == (is_kept and what == "a reference") and counted.dropped() == 0
    made.t.fill(0, None, len(made.t))
    made.g_externref.value = None
    made.collect()
    assert ref.strong_count == 1
    given.clear()
    ref.drop()
    assert counted.dropped() == 1


@pytest.mark.parametrize("kept_by", ["an element", "a global", "nothing"])
def test_an_object_lives_as_long_as_it_is_kept(made, counted, kept_by):
    if kept_by == "an element":
        made.t[3] = counted()
    elif kept_by == "a global":
        made.g_externref.value = counted()
    else:
        made.externref(counted())
    made.collect()
    assert counted.dropped() == (kept_by == "nothing")
    made.t[3] = made.g_externref.value = None
    made.collect()
    assert counted.dropped() == 1


def test_what_an_exception_holds_is_let_go(make, counted):
    def fail(*args):
        held = counted()  # noqa: F841  kept by the traceback
        raise ValueError

    made = make(all=fail)
    for _ in range(20):
        with pytest.raises(ValueError):
            made.all(1, 2, 3, 4, bytes(16), counted(), made.double)
    made.collect()
    assert counted.dropped() == 40


def test_a_finalizer_may_use_the_store(made):
    seen = []

    class Using:
        def __del__(self):
            made.t[1] = self.__class__
            seen.append((made.externref(1), made.t[0], made.g_i32.value, len(made.m), made.funcs[0](2)))

    made.t[0] = Using()
    made.t[0] = "new"
    made.collect()
    assert seen == [(1, "new", 1, 65536, 4)] and made.t[1] is Using
    made.t[1] = None


def test_a_reference_outlives_its_store(made):
    thing = object()
    ref = made.externref.refs(thing)
    made.t[0] = ref
    made.store.close()
    assert ref.value is thing and ref.strong_count == 1


@pytest.mark.parametrize("where", ["an element", "a global", "a later argument", "a host function", "another thread"])
def test_nobody_takes_what_the_store_holds(make, where):
    """Its counts are no raw owners', which are all that from_raw() takes. Promise P5."""
    ref, outcomes = VMExternRef([where]), []
    raw = ref.as_raw()

    def steal():
        try:
            VMExternRef.from_raw(raw).drop()
            outcomes.append("stolen")
        except InvalidRawPointerError:
            outcomes.append("refused")

    def host(*args):
        assert in_thread(steal) is None if where == "another thread" else steal() is None
        return args[::-1]

    made = make(all=host)
    if where == "an element":
        made.t[0] = ref
        steal()
    elif where == "a global":
        made.g_externref.value = ref
        steal()
    elif where == "a later argument":
        made.late(ref, Calling(steal), ref)
    else:
        assert made.all(1, 2, 3, 4, bytes(16), ref, None)[1] is ref.value
    assert outcomes == ["refused"]
    made.t[0] = made.g_externref.value = None
    made.collect()
    assert ref.strong_count == 1
