"""externref.Function: references moved and lent, words, and the counts of every way out."""

import ctypes
import gc
import sys
import threading

import pytest

import externref
from externref import Function, InvalidRawPointerError, MovedError, VMExternRef
from support import LET_GO

WORD_MAX = 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1


@pytest.fixture
def function(foreign):
    def function(name, *args, **kwargs):
        return Function(ctypes.cast(getattr(foreign, name), ctypes.c_void_p).value, *args, **kwargs)

    return function


def test_a_result_that_is_only_lent(function):
    ref = VMExternRef(["x"])
    with pytest.raises(InvalidRawPointerError, match="no owner to take over"):
        function("identity", "w", "m")(ref.as_raw())
    assert ref.strong_count == 1


@pytest.mark.parametrize("release_gil", [False, True])
@pytest.mark.parametrize("code", ["m", "r"])
def test_identity(function, code, release_gil):
    ident = function("identity", code, code, release_gil=release_gil)
    value = ["x"]
    references = sys.getrefcount(value)
    assert ident(value) is value
    assert ident(None) is None
    assert ident.refs(None) is None
    ref = ident.refs(value)
    assert type(ref) is VMExternRef and ref.value is value and ref.strong_count == 1
    del ref
    assert externref.stats() == (0, 0, 0, 0)
    assert sys.getrefcount(value) == references


@pytest.mark.parametrize("code", ["m", "r"])
def test_a_wrapper_passed_stays_valid(function, code):
    ident = function("identity", code, code)
    ref = VMExternRef(["x"])
    assert ident(ref) is ref.value
    assert not ref.moved and ref.strong_count == 1
    out = ident.refs(ref)
    assert out == ref and out is not ref and ref.strong_count == 2


def test_moved_in_is_the_callee_s(function, make_payload):
    keep, take = function("keep", "m", "w"), function("take", "", "m")
    dropped = []
    payload = make_payload(dropped)
    assert keep(payload) == 0
    del payload
    gc.collect()
    assert dropped == [] and externref.stats() == (1, 0, 0, 0)
    out = take()
    assert externref.stats() == (0, 0, 0, 0) and dropped == []
    del out
    assert len(dropped) == 1
    assert take() is None


def test_moved_in_by_one_way_and_out_by_another(function, foreign):
    value = ["x"]
    function("keep", "m", "w")(value)
    assert VMExternRef.from_raw(foreign.take()).value is value


def test_count_seen_by_the_callee(function):
    lent = function("strong_count", "r", "w")
    assert lent(["x"]) == 1                 # the box made for the call
    ref = VMExternRef(["x"])
    assert lent(ref) == 2                   # the wrapper and the call
    assert ref.strong_count == 1


def test_lent_argument_cloned_by_the_callee(function):
    clone = function("clone_lent", "r", "m")
    value = ["x"]
    assert clone(value) is value
    ref = clone.refs(value)
    assert ref.strong_count == 1 and ref.value is value


def test_lent_result_is_cloned(function):
    value = ["x"]
    function("keep", "m", "w")(value)
    peek = function("peek", "", "r")
    assert peek() is value
    ref = peek.refs()
    assert ref.strong_count == 2
    assert function("take", "", "m")() is value
    assert ref.strong_count == 1
    assert peek() is None and peek.refs() is None


def test_two_moved_one_dropped(function, make_payload):
    dropped = []
    second = function("second", "mm", "m")
    kept = make_payload(dropped, "kept")
    assert second(make_payload(dropped, "gone"), kept) is kept
    externref.drain()
    assert dropped == ["gone"]
    assert second(None, None) is None
    assert second(kept, kept) is kept       # two boxes of one object
    ref = VMExternRef(kept)
    assert second.refs(ref, ref) == ref     # two counts of one box
    externref.drain()
    assert ref.strong_count == 1


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("release_gil", [False, True])
def test_every_number_of_parameters(function, count, release_gil):
    words = [10**i for i in range(count)]
    expected = sum((i + 1) * word for i, word in enumerate(words)) if count else 100
    assert function(f"sum{count}", "w" * count, "w", release_gil=release_gil)(*words) == expected


def test_void_result(function):
    assert function("record", "w")(42) is None
    assert function("last_recorded", "", "w")() == 42


@pytest.mark.parametrize("word, expected", [
    (0, 0), (WORD_MAX, WORD_MAX), (-1, WORD_MAX), (-(WORD_MAX // 2) - 1, WORD_MAX // 2 + 1), (True, 1),
])
def test_words(function, word, expected):
    assert function("sum1", "w", "w")(word) == expected


@pytest.mark.parametrize("word", [WORD_MAX + 1, -(WORD_MAX // 2) - 2, 2**200])
def test_word_that_does_not_fit(function, word):
    with pytest.raises(OverflowError, match=f"{word} does not fit in a machine word"):
        function("sum1", "w", "w")(word)


@pytest.mark.parametrize("word", [1.0, "1", None, VMExternRef])
def test_word_that_is_no_int(function, word):
    with pytest.raises(TypeError):
        function("sum1", "w", "w")(word)


def spent():
    ref = VMExternRef("x")
    ref.drop()
    return ref


@pytest.mark.parametrize("bad, error", [
    ((["a"], "no int"), TypeError), ((["a"], 2**64), OverflowError), ((["a"],), TypeError),
    ((["a"], 1, 1), TypeError), ((), TypeError),
])
@pytest.mark.parametrize("code", ["m", "r"])
def test_errors_come_before_the_call_and_lose_nothing(function, code, bad, error):
    function("record", "w")(7)
    call = function("record", code + "w")
    references = [sys.getrefcount(value) for value in bad]
    for attempt in (call, call.refs):
        with pytest.raises(error):
            attempt(*bad)
    assert [sys.getrefcount(value) for value in bad] == references
    assert externref.stats() == (0, 0, 0, 0)
    assert function("last_recorded", "", "w")() == 7


@pytest.mark.parametrize("code", ["m", "r"])
def test_spent_wrapper(function, code):
    ref = VMExternRef("first")
    with pytest.raises(MovedError):
        function("second", code * 2, "m")(ref, spent())
    assert ref.strong_count == 1


def test_keyword_arguments(function):
    with pytest.raises(TypeError, match="no keyword arguments"):
        function("sum1", "w", "w")(a=1)


@pytest.mark.parametrize("args, error, match", [
    ((0, "m"), ValueError, "null"),
    ((-1, "x"), TypeError, "parameter 1 is 'x'"),
    ((8, "mrwx"), TypeError, "parameter 4 is 'x'"),
    ((8, "", "z"), TypeError, "the result is 'z'"),
    ((8, "", "mm"), TypeError, "the result is 'mm'"),
    ((8, "w" * 9), ValueError, "at most 8 parameters, not 9"),
    ((2**64, ""), OverflowError, "does not fit"),
    (("8", ""), TypeError, "."),
    ((8, None), TypeError, "."),
    ((8, b"m"), TypeError, "."),
    ((8,), TypeError, "."),
])
def test_constructor_refuses(args, error, match):
    with pytest.raises(error, match=match):
        Function(*args)


def test_attributes_and_repr(function, foreign):
    call = function("sum2", "ww", "w", release_gil=True)
    assert (call.params, call.result, call.release_gil) == ("ww", "w", True)
    assert call.address == ctypes.cast(foreign.sum2, ctypes.c_void_p).value
    assert repr(call) == f"<externref.Function at {call.address:#x}, 'ww' -> 'w'>"
    with pytest.raises(AttributeError):
        call.params = "m"
    with pytest.raises(TypeError):
        type("Sub", (Function,), {})
    assert call.__call__(1, 2) == 5         # by the slot's wrapper, without vectorcall


def test_release_gil_lets_other_threads_run(function, foreign):
    ref = VMExternRef(["x"])
    for _ in range(2):
        ref.clone().into_raw()
    hammer = function("hammer", "rww", "w", release_gil=True)
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(ref.clone().strong_count)

    thread = threading.Thread(target=tick)
    thread.start()
    # The threads of hammer own two counts; the call itself only lends a third.
    assert hammer(ref, 2, 2_000_000) & 0xFFFFFFFF == 0
    stop.set()
    thread.join()
    assert ticks and ref.strong_count == 1


def test_the_callee_may_call_python_and_drop_the_argument_s_wrapper(function):
    ref = VMExternRef(["kept by the call"])
    seen = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def callback(raw):
        ref.drop()
        gc.collect()
        seen.append(VMExternRef.clone_from_raw(raw).value)
        return raw

    call = Function(ctypes.cast(callback, ctypes.c_void_p).value, "r", "r")
    assert call(ref) == ["kept by the call"] == seen[0]
    assert externref.stats() == (0, 0, 0, 0)


@pytest.mark.parametrize("call", ["", ".refs", ".__call__"])
def test_its_caller_may_let_it_go_in_the_call(run_python, call):
    assert run_python(LET_GO + f"""
import ctypes
from externref import Function
@ctypes.CFUNCTYPE(ctypes.c_size_t)
def callback():
    end()
    return 7
address = ctypes.cast(callback, ctypes.c_void_p).value
print(let_go(lambda: Function(address, "", "w"){call}), let_go(lambda: partial(Function(address, "", "w"){call})))
""", env={"PYTHONMALLOC": "debug"}) == "over over\n"


def test_its_caller_may_let_the_arguments_go_in_the_call(run_python):
    run_python(LET_GO + """
from externref import Function, abi
kept = Function(abi.clone_address, "wwr", "w")
assert let_go(lambda: partial(kept, Number(0), int("1" * 15), ["x"])) == "over"
""", env={"PYTHONMALLOC": "debug"})


def test_an_exception_that_the_callee_sets_comes_out():
    set_error = ctypes.cast(ctypes.pythonapi.PyErr_SetNone, ctypes.c_void_p).value
    with pytest.raises(KeyError):
        Function(set_error, "wr")(id(KeyError), ["lent"])
    assert externref.stats() == (0, 0, 0, 0)


def test_many_trips_keep_the_counts(function):
    ident = function("identity", "m", "m")
    value = ["x"]
    references = sys.getrefcount(value)
    for _ in range(100_000):
        ident(value)
    assert sys.getrefcount(value) == references
    assert externref.stats() == (0, 0, 0, 0)
