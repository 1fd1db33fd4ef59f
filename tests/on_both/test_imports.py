"""Host functions: what they get, what they may return, what they raise."""

import threading
import traceback

import pytest

from externref import MovedError, VMExternRef
from support import MISFITS, NUMBERS, short


def test_every_type_goes_through(make):
    seen = []
    made = make(all=lambda *args: (seen.append(args), args[::-1])[1])
    args = (-1, 2**63 - 1, 1.5, 0.1, bytes(range(16)), object(), None)
    assert made.all(*args) == args[::-1] and seen == [args]


@pytest.mark.parametrize("name, returned, result", NUMBERS, ids=short)
def test_a_number_comes_out(make, name, returned, result):
    assert make(**{name: lambda: returned})[f"host_{name}"]() == result


@pytest.mark.parametrize("name, returned, error, word", MISFITS, ids=short)
def test_a_number_that_does_not_fit(make, name, returned, error, word):
    made = make(**{name: lambda: returned})
    with pytest.raises(error) as caught:
        made[f"host_{name}"]()
    assert str(caught.value).startswith(f"{made.host_name(name)}() result 1 ({name}): ") and word in str(caught.value)


@pytest.mark.parametrize("name, returned, words", [
    ("v128", b"x", "result 1 (v128): a v128 has 16 bytes, not 1"), ("v128", None, "result 1 (v128): expected 16 bytes, not NoneType"),
    ("funcref", 5, "result 1 (funcref): expected a Func or None, not int"), ("two", ("x", 1), "result 1 (i32): expected an int, not str")])
def test_the_place_of_what_does_not_fit(make, name, returned, words):
    made = make(**{name: lambda: returned})
    with pytest.raises((TypeError, ValueError)) as caught:
        made["two" if name == "two" else f"host_{name}"]()
    assert str(caught.value) == f"{made.host_name(name)}() {words}"


@pytest.mark.parametrize("returned, found", [(5, "int"), (None, "NoneType"), ((1,), "1"), ((1, 2, 3), "3"), ((), "0"), (print, "builtin")],
                         ids=range(6))
def test_several_results(make, returned, found):
    made = make(two=lambda: returned)
    with pytest.raises(TypeError) as caught:
        made.two()
    assert str(caught.value).startswith(f"{made.host_name('two')}() must return 2 values, not {found}")


@pytest.mark.parametrize("returned", [(1, "x"), [1, "x"], {1: 0, "x": 0}], ids=type)
def test_several_results_from_any_iterable(make, returned):
    assert make(two=lambda: returned).two() == (1, "x")
    assert make(two=lambda: iter(returned)).two() == (1, "x")


def test_an_iterator_that_fails_is_itself_to_blame(make):
    def fail():
        yield 1
        raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine$"):
        make(two=fail).two()


@pytest.mark.parametrize("unwanted", [1, "x", (1, 2), VMExternRef], ids=str)
def test_a_result_nobody_wants_is_not_looked_at(make, unwanted):
    assert make(none=lambda: unwanted).call() is None


def test_a_function_in_and_out(make):
    made = make(funcref=lambda: made.double, all=lambda *args: (args[6], *args[5::-1]))
    assert made.host_funcref()(4) == 8
    function, *_ = made.all(1, 2, 3, 4, bytes(16), None, made.get)
    assert function() == 3
    other = make()
    made = make(funcref=lambda: other.double)
    with pytest.raises(ValueError) as caught:
        made.host_funcref()
    assert str(caught.value) == f"{made.host_name('funcref')}() result 1 (funcref): the function is of another store"


def test_a_spent_reference(make):
    ref = VMExternRef(1)
    ref.drop()
    made = make(externref=lambda: ref, two=lambda: (1, ref))
    for call in (made.host_externref, made.host_externref.refs, made.two):
        with pytest.raises(MovedError):
            call()


class Stop(BaseException):
    pass


@pytest.mark.parametrize("exception", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), Stop()], ids=repr)
def test_an_exception_comes_out_as_it_is(make, exception):
    def inner():
        raise exception

    def outer():
        inner()

    made = make(none=outer)
    for _ in range(3):
        exception.__traceback__ = None
        with pytest.raises(type(exception)) as caught:
            made.call()
        assert caught.value is exception and exception.__cause__ is exception.__context__ is None
        assert [frame.name for frame in traceback.extract_tb(exception.__traceback__)][-2:] == ["outer", "inner"]
        assert made.double(4) == 8


def test_a_wrong_number_of_parameters_is_the_callables_to_say(make):
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        make(none=lambda x: 1).call()


def test_it_may_call_back(make):
    def nested():
        depths.append(len(depths))
        if len(depths) < 5:
            made.call()
        made.t[0] = [made.double(len(depths)), made.g_i32.value, len(made.m), made.t[0]]

    depths = []
    made = make(none=nested)
    made.call()
    assert depths == list(range(5)) and made.t[0][0] == 10


def test_it_runs_on_the_callers_thread(make):
    seen = []
    made = make(none=lambda: seen.append(threading.get_ident()))
    for release in (False, True):
        made["call"].release_gil = release
        thread = threading.Thread(target=made["call"])
        thread.start()
        thread.join(10)
        assert seen.pop() == thread.ident
