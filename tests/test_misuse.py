"""Nothing that pure Python code does corrupts memory: every misuse is an exception. Promise P5."""

import ctypes
import sys

import pytest

import externref
from externref import (
    InvalidRawPointerError,
    MovedError,
    VMExternRef,
    abi,
    option_from_raw,
    option_into_raw,
)
from support import wait_until_drained

TAKE = [VMExternRef.from_raw, VMExternRef.clone_from_raw, option_from_raw]
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=TAKE, ids=["from_raw", "clone_from_raw", "option_from_raw"])
def take(request):
    return request.param


@pytest.mark.parametrize("take", TAKE[:2])
def test_null(take):
    with pytest.raises(InvalidRawPointerError, match="null pointer"):
        take(0)


@pytest.mark.parametrize("offset", range(1, ctypes.sizeof(ctypes.c_void_p)))
def test_misaligned(take, offset):
    ref = VMExternRef(1)
    with pytest.raises(InvalidRawPointerError, match="misaligned"):
        take(ref.as_raw() + offset)


@pytest.mark.parametrize("ptr", [8, 0xDEAD0000, sys.maxsize - 7, 2**64 - 8], ids=hex)
def test_made_up(take, ptr):
    with pytest.raises(InvalidRawPointerError, match="never handed out"):
        take(ptr)


@pytest.mark.parametrize("ptr", [-1, 2**64, 2**200, -(2**63)])
def test_no_address(take, ptr):
    with pytest.raises(InvalidRawPointerError, match="does not fit in a word"):
        take(ptr)


@pytest.mark.parametrize("ptr", [1.0, "1", [], object(), VMExternRef])
def test_no_int(take, ptr):
    with pytest.raises(TypeError, match=f"expected an address as an int, .* not {type(ptr).__name__}"):
        take(ptr)


def test_none_is_null_where_that_is_asked_for(take):
    if take is option_from_raw:
        assert take(None) is None
    else:
        with pytest.raises(TypeError, match="None is no reference.* option_from_raw"):
            take(None)


def test_an_index_is_an_int(take):
    class Index:
        def __index__(self):
            return 16

    with pytest.raises(InvalidRawPointerError, match="0x10"):
        take(Index())


def test_never_handed_out(take):
    # A real block's address, found without asking the package for it.
    ref = VMExternRef(1)
    footer = ctypes.c_size_t.from_address(id(ref) + object.__basicsize__).value
    with pytest.raises(InvalidRawPointerError, match="never handed out"):
        take(footer)
    assert ref.as_raw() == footer


def test_inside_a_block_but_no_footer(take):
    ref = VMExternRef(1)
    for offset in (-8, 8, 16, 24):
        with pytest.raises(InvalidRawPointerError, match="never handed out"):
            take(ref.as_raw() + offset)


@pytest.mark.parametrize("many", [1, 1000])
def test_freed(take, many):
    refs = [VMExternRef(i) for i in range(many)]
    raws = [ref.as_raw() for ref in refs]
    del refs[:]
    for raw in raws:
        with pytest.raises(InvalidRawPointerError, match="freed"):
            take(raw)


def test_freed_and_its_memory_in_use_again(take):
    # A block that reuses the address but was not handed out does not revive it.
    ref = VMExternRef(1)
    raw = ref.as_raw()
    del ref
    refs = [VMExternRef(i) for i in range(100)]
    with pytest.raises(InvalidRawPointerError):
        take(raw)
    assert all(ref.strong_count == 1 for ref in refs)


def test_taken_back_twice():
    raw = VMExternRef("x").into_raw()
    ref = VMExternRef.from_raw(raw)
    with pytest.raises(InvalidRawPointerError, match="taken back already"):
        VMExternRef.from_raw(raw)
    assert ref.strong_count == 1 and ref.value == "x"


def test_taken_back_twice_with_clones_about():
    ref = VMExternRef("x")
    raw = ref.clone().into_raw()
    VMExternRef.from_raw(raw)
    with pytest.raises(InvalidRawPointerError, match="taken back already"):
        VMExternRef.from_raw(raw)
    assert ref.strong_count == 1


def test_lent_only():
    ref = VMExternRef("x")
    for raw in (ref.as_raw(), ref.borrow().__enter__()):
        with pytest.raises(InvalidRawPointerError, match="only lent"):
            VMExternRef.from_raw(raw)
    assert ref.strong_count == 1


def test_taken_back_and_dropped(take):
    raw = VMExternRef("x").into_raw()
    VMExternRef.from_raw(raw).drop()
    with pytest.raises(InvalidRawPointerError):
        take(raw)


def test_taken_back_and_deleted(take):
    # Unlike drop(), this keeps the wrapper and its block for the next reference.
    raw = VMExternRef("x").into_raw()
    del_me = VMExternRef.from_raw(raw)
    del del_me
    with pytest.raises(InvalidRawPointerError, match="freed"):
        take(raw)


def test_clone_of_a_count_that_has_just_become_zero():
    # As when compiled code drops the last reference between the check and the clone.
    ref = VMExternRef("x")
    raw = ref.as_raw()
    count = ctypes.c_size_t.from_address(raw + abi.REF_COUNT_OFFSET)
    count.value = 0
    with pytest.raises(InvalidRawPointerError, match="dropped the last one"):
        VMExternRef.clone_from_raw(raw)
    count.value = 1


def test_dropped_by_compiled_code_and_still_pending(take):
    # PYFUNCTYPE holds the GIL, so that no pending call drains in between.
    drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
    raw = VMExternRef("x").into_raw()

    def drop_and_take():
        drop(raw)
        return take(raw)

    with pytest.raises(InvalidRawPointerError):
        drop_and_take()


def test_dropped_by_compiled_code_as_it_is_cloned(foreign):
    # Either the clone came first and owns the payload, or it is refused: never a dead block.
    outcomes = set()
    for i in range(2000):
        value = [i]
        raw = VMExternRef(value).into_raw()
        assert foreign.drop_detached(raw) == 0
        try:
            outcomes.add(VMExternRef.clone_from_raw(raw).value == value)
        except InvalidRawPointerError:
            outcomes.add(None)
    assert outcomes <= {True, None}
    wait_until_drained()


def test_the_stated_limit_a_stale_address_that_a_new_block_was_handed_out_at():
    # Inherent: nothing tells the two apart. It is another reference, and never a crash.
    ref = VMExternRef("old")
    raw = ref.as_raw()
    del ref
    refs = [VMExternRef("new") for _ in range(300)]
    again = [ref for ref in refs if ref.as_raw() == raw]
    for ref in again:
        assert VMExternRef.clone_from_raw(raw).value == "new"
        assert ref.strong_count == 1


def spent_by_into_raw():
    ref = VMExternRef("x")
    VMExternRef.from_raw(ref.into_raw())
    return ref


def spent_by_drop():
    ref = VMExternRef("x")
    ref.drop()
    return ref


USES = {
    "value": lambda ref: ref.value,
    "is_": lambda ref: ref.is_(int),
    "downcast_ref": lambda ref: ref.downcast_ref(int),
    "clone": lambda ref: ref.clone(),
    "copy": lambda ref: ref.__copy__(),
    "deepcopy": lambda ref: ref.__deepcopy__({}),
    "strong_count": lambda ref: ref.strong_count,
    "into_raw": lambda ref: ref.into_raw(),
    "as_raw": lambda ref: ref.as_raw(),
    "borrow": lambda ref: ref.borrow(),
    "with": lambda ref: ref.__enter__(),
    "hash": hash,
    "lt": lambda ref: ref < VMExternRef(1),
    "gt": lambda ref: VMExternRef(1) > ref,
    "_as_parameter_": lambda ref: ref._as_parameter_,
    "from_param": VMExternRef.from_param,
    "option_into_raw": option_into_raw,
}


@pytest.mark.parametrize("spend", [spent_by_into_raw, spent_by_drop])
@pytest.mark.parametrize("use", USES)
def test_spent_wrapper(spend, use):
    with pytest.raises(MovedError, match="into_raw.. or given up by drop"):
        USES[use](spend())
    assert issubclass(MovedError, ReferenceError)


@pytest.mark.parametrize("spend", [spent_by_into_raw, spent_by_drop])
def test_spent_wrapper_still_has_an_identity_and_a_repr(spend):
    ref, other = spend(), spend()
    assert ref == ref and ref != other and not ref == other and ref != VMExternRef(1)
    assert repr(ref) == "<externref.VMExternRef moved>"
    assert ref.moved
    ref.drop()


@pytest.mark.parametrize("value", [1, "x", object()])
def test_helpers_refuse_other_types(value):
    with pytest.raises(TypeError, match="expected a VMExternRef or None"):
        option_into_raw(value)
    with pytest.raises(TypeError, match="expected a VMExternRef or None"):
        VMExternRef.from_param(value)


def test_methods_refuse_other_selves():
    with pytest.raises(TypeError):
        VMExternRef.clone(object())
    with pytest.raises(TypeError):
        VMExternRef.value.__get__(object())


@pytest.mark.parametrize("first", ["the main one", "the other"])
def test_a_second_interpreter_is_refused(run_python, first):
    # Every count and list is the process's; two interpreters would share them without a lock.
    run_python("""if True:
        import sys
        if sys.argv[1] == "the main one":
            import externref
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        other = interpreters.create()
        code = '''if True:
            try:
                import externref
            except ImportError as error:
                if "in the main interpreter of a process only" not in str(error):
                    raise SystemError(error)
            else:
                raise SystemError("imported")
        '''
        if hasattr(interpreters, "run_string"):
            result = interpreters.run_string(other, code)
            assert result is None, result       # 3.13 returns what was raised
        interpreters.destroy(other)
        import externref
        assert externref.VMExternRef(1).value == 1
    """, first)


class TestBorrow:
    def test_entered_twice(self):
        borrow = VMExternRef(1).borrow()
        with borrow:
            with pytest.raises(RuntimeError, match="open already"):
                borrow.__enter__()
        with borrow as raw:         # but again after its end
            assert raw

    def test_exit_without_enter(self):
        VMExternRef(1).borrow().__exit__(None, None, None)

    def test_abandoned_while_open(self):
        ref = VMExternRef(1)
        ref.borrow().__enter__()
        assert ref.strong_count == 1 and externref.stats().exposed == 0

    def test_wrapper_spent_before_enter(self):
        ref = VMExternRef(1)
        borrow = ref.borrow()
        ref.drop()
        with pytest.raises(MovedError):
            borrow.__enter__()

    @pytest.mark.parametrize("args", [(), (None,), (1,)])
    def test_class_is_no_way_around(self, args):
        with pytest.raises(TypeError):
            type(VMExternRef(1).borrow())(*args)

    def test_owner_taken_through_the_collector(self):
        import gc
        ref = VMExternRef([])
        borrow = ref.borrow()
        borrow.__enter__()
        for owner in gc.get_referents(borrow):
            owner.drop()
        borrow.__exit__(None, None, None)
        assert ref.moved


def test_clone_refuses_a_count_near_its_limit(native):
    # Rust's Arc aborts here; the count is put there by hand, as only compiled code could.
    ref = VMExternRef("x")
    raw = ref.as_raw()
    count = ctypes.c_size_t.from_address(raw + abi.REF_COUNT_OFFSET)
    count.value = sys.maxsize + 1
    for clone in (ref.clone, lambda: VMExternRef.clone_from_raw(raw), lambda: VMExternRef.from_raw(raw),
                  ref.borrow().__enter__):
        with pytest.raises(OverflowError, match="as many owners as can be counted"):
            clone()
    count.value = 1
    assert ref.clone().strong_count == 2


def test_errors_lose_nothing(native):
    ref = VMExternRef("x")
    raw = ref.clone().into_raw()
    before = externref.stats(), ref.strong_count
    for ptr in (0, 1, raw + 8, -1, 2**70, "x"):
        for take in TAKE[:2]:
            with pytest.raises((InvalidRawPointerError, TypeError)):
                take(ptr)
    assert (externref.stats(), ref.strong_count) == before
    native.drop(raw)


def test_an_import_that_failed_is_not_tried_again(run_python):
    # The types are half made then, and their slots were changed.
    assert run_python("""if True:
        import gc
        callbacks = gc.callbacks
        del gc.callbacks
        for error in (AttributeError, ImportError, ImportError):
            try:
                import externref
            except error as refused:
                print(refused)
            gc.callbacks = callbacks
    """).splitlines()[1:] == 2 * ["the first import of externref in this process failed, and it cannot be imported again: "
                                  "start another process"]
