"""The ownership table, row by row: counts, handles, Python references, drops. Promises P1, P2."""

import copy
import io
from sys import getrefcount

import pytest

import externref
from externref import MovedError, VMExternRef, option_from_raw, option_into_raw


class Ledger:
    """Watches one payload: what the table has in its columns."""

    def __init__(self, make_payload):
        self.dropped = []
        self.value = make_payload(self.dropped)
        self.base = getrefcount(self.value)

    def row(self):
        """(live blocks, handles, Python references held by the block)"""
        stats = externref.stats()
        return stats.live_blocks, stats.handles, getrefcount(self.value) - self.base


@pytest.fixture
def ledger(make_payload):
    ledger = Ledger(make_payload)
    yield ledger
    externref.drain()
    assert ledger.row() == (0, 0, 0)
    del ledger.value
    assert len(ledger.dropped) == 1     # made == dropped


@pytest.mark.parametrize("make", [
    VMExternRef, VMExternRef.new, lambda x: VMExternRef.new_with(lambda: x), VMExternRef[object],
    lambda x: VMExternRef.__new__(VMExternRef, x),
], ids=["VMExternRef", "new", "new_with", "alias", "__new__"])
def test_make(ledger, make):
    ref = make(ledger.value)
    assert ref.strong_count == 1
    assert ledger.row() == (1, 1, 1)
    assert ref.value is ledger.value
    assert ledger.row() == (1, 1, 1)


@pytest.mark.parametrize("clone", [VMExternRef.clone, copy.copy, copy.deepcopy])
def test_clone_and_drop_of_a_wrapper_with_others_live(ledger, clone):
    ref = VMExternRef(ledger.value)
    other = clone(ref)
    assert other == ref and other is not ref
    assert ref.strong_count == other.strong_count == 2
    assert ledger.row() == (1, 2, 2)
    del other
    assert ref.strong_count == 1
    assert ledger.row() == (1, 1, 1)


def test_last_wrapper_dropped_with_raw_owners_live(ledger, native):
    ref = VMExternRef(ledger.value)
    raw = ref.clone().into_raw()
    assert ledger.row() == (1, 1, 1) and ref.strong_count == 2
    del ref
    assert ledger.row() == (1, 0, 1)        # kept, now the raw owner's
    native.drop(raw)


def test_last_owner_dropped(ledger):
    ref = VMExternRef(ledger.value)
    del ref
    assert ledger.row() == (0, 0, 0)


def test_into_raw_of_the_last_wrapper_and_back(ledger):
    ref = VMExternRef(ledger.value)
    raw = ref.into_raw()
    assert ref.moved
    assert ledger.row() == (1, 0, 1)        # kept
    back = VMExternRef.from_raw(raw)
    assert ledger.row() == (1, 1, 1)        # taken over
    assert back.strong_count == 1 and back.value is ledger.value


def test_into_raw_with_other_wrappers_and_back(ledger):
    ref = VMExternRef(ledger.value)
    raw = ref.clone().into_raw()
    assert ref.strong_count == 2            # same
    assert ledger.row() == (1, 1, 1)
    back = VMExternRef.from_raw(raw)
    assert ref.strong_count == 2
    assert ledger.row() == (1, 2, 2)
    assert back == ref


@pytest.mark.parametrize("wrapper_live", [True, False])
def test_clone_from_raw(ledger, native, wrapper_live):
    ref = VMExternRef(ledger.value)
    raw = ref.clone().into_raw()
    if not wrapper_live:
        ref.drop()
    other = VMExternRef.clone_from_raw(raw)
    assert other.strong_count == 2 + wrapper_live
    assert ledger.row() == (1, 1 + wrapper_live, 1 + wrapper_live)
    native.drop(raw)
    assert other.strong_count == 1 + wrapper_live


def test_compiled_clone_and_drop(ledger, native):
    ref = VMExternRef(ledger.value)
    raw = native.clone(ref.as_raw())
    assert raw == ref.as_raw()
    assert ref.strong_count == 2
    assert ledger.row() == (1, 1, 1)        # Python references: none
    native.drop(raw)
    assert ref.strong_count == 1
    assert ledger.row() == (1, 1, 1)


def test_compiled_drop_to_zero(ledger, native):
    raw = VMExternRef(ledger.value).into_raw()
    native.drop(raw)
    externref.drain()
    assert ledger.row() == (0, 0, 0)


def test_compiled_clone_taken_by_from_raw(ledger, native):
    ref = VMExternRef(ledger.value)
    back = VMExternRef.from_raw(native.clone(ref.as_raw()))
    assert back.strong_count == 2
    assert ledger.row() == (1, 2, 2)


def test_borrow_owns_a_count_while_open(ledger):
    ref = VMExternRef(ledger.value)
    with ref.borrow() as raw:
        assert raw == ref.as_raw()
        assert ref.strong_count == 2 and ledger.row() == (1, 2, 2)
    assert ref.strong_count == 1 and ledger.row() == (1, 1, 1)


def test_borrow_outlives_the_wrapper(ledger, native):
    ref = VMExternRef(ledger.value)
    with ref.borrow() as raw:
        ref.drop()
        native.drop(native.clone(raw))
        assert VMExternRef.clone_from_raw(raw).value is ledger.value
    assert ledger.row() == (0, 0, 0)


def test_as_raw_changes_no_count(ledger):
    ref = VMExternRef(ledger.value)
    assert ref.as_raw() == ref.as_raw()
    assert ref.strong_count == 1 and ledger.row() == (1, 1, 1)


def test_drop_gives_up_the_owner_now_and_once(ledger):
    ref = VMExternRef(ledger.value)
    other = ref.clone()
    ref.drop()
    ref.drop()
    assert ref.moved and not other.moved
    assert ledger.row() == (1, 1, 1)
    other.drop()
    assert ledger.row() == (0, 0, 0)


def test_with_drops_at_the_end(ledger):
    with VMExternRef(ledger.value) as ref:
        assert ref.value is ledger.value
    assert ref.moved
    assert ledger.row() == (0, 0, 0)


def test_with_drops_on_an_exception_too(ledger):
    with pytest.raises(KeyError):
        with VMExternRef(ledger.value) as ref:
            raise KeyError
    assert ref.moved and ledger.row() == (0, 0, 0)


def test_option_helpers_move(ledger):
    raw = option_into_raw(VMExternRef(ledger.value))
    assert ledger.row() == (1, 0, 1)
    assert option_from_raw(raw).value is ledger.value


def test_new_with_that_raises_leaks_nothing():
    def make():
        raise LookupError("no value today")

    with pytest.raises(LookupError, match="no value today"):
        VMExternRef.new_with(make)
    assert externref.stats().live_blocks == 0


def test_downcast_and_is():
    ref = VMExternRef(io.StringIO("hello"))
    assert ref.is_(io.StringIO) and ref.is_((int, io.TextIOBase)) and ref.is_(io.StringIO | int)
    assert not ref.is_(int)
    assert ref.downcast_ref(io.TextIOBase) is ref.value
    assert ref.downcast_ref(int) is None
    with pytest.raises(TypeError):
        ref.is_("not a class")


@pytest.mark.parametrize("ask", [VMExternRef.is_, VMExternRef.downcast_ref])
def test_payload_outlives_a_class_check_that_drops_the_box(ask, make_payload):
    dropped = []

    class Dropping(type):
        def __instancecheck__(cls, value):
            ref.drop()
            assert dropped == []
            return isinstance(value.name, str)

    class Nosy(metaclass=Dropping):
        pass

    ref = VMExternRef(make_payload(dropped, "payload"))
    assert ask(ref, Nosy)
    assert dropped == ["payload"]


@pytest.mark.parametrize("count", [1, 2, 300, 5000])    # 256 dead ones are kept for reuse
def test_many_at_once(make_payload, count):
    dropped = []
    refs = [VMExternRef(make_payload(dropped, i)) for i in range(count)]
    clones = [ref.clone() for ref in refs]
    assert externref.stats()[:2] == (count, 2 * count)
    del refs
    assert dropped == []
    del clones
    assert sorted(dropped) == list(range(count))


def test_a_recycled_wrapper_is_as_new(native):
    ref = VMExternRef("a")
    ref.as_raw()
    del ref
    ref = VMExternRef("b")
    assert externref.stats().exposed == 0
    assert ref.strong_count == 1 and not ref.moved and ref.value == "b"


def test_moved_in_and_kept_by_compiled_code(foreign, make_payload):
    dropped = []
    for name in range(5):
        assert foreign.keep(VMExternRef(make_payload(dropped, name)).into_raw()) == 0
    assert externref.stats()[:2] == (5, 0) and dropped == []
    back = [VMExternRef.from_raw(foreign.take()) for _ in range(5)]
    assert [ref.value.name for ref in back] == [4, 3, 2, 1, 0]
    assert foreign.take() is None
    del back
    assert sorted(dropped) == [0, 1, 2, 3, 4]


def test_the_header_sees_what_python_sees(foreign):
    value = ["payload"]
    ref = VMExternRef(value)
    with ref.borrow() as raw:
        assert foreign.strong_count(raw) == ref.strong_count == 2
        assert foreign.payload(raw) == id(value)
    assert foreign.identity(ref) == ref.as_raw()


def test_spent_by_into_raw():
    ref = VMExternRef(1)
    raw = ref.into_raw()
    with pytest.raises(MovedError):
        _ = ref.value
    VMExternRef.from_raw(raw)
