"""References through ctypes and cffi: what docs/ctypes.md says, with exact counts. Promises P1, P2, P3, P5, P6 and P8."""

import ctypes
import gc
import inspect
import re
import sys
import threading
from ctypes import c_int, c_void_p
from unittest import mock

import pytest

import externref
import externref.ctypes
from externref import InvalidRawPointerError, MovedError, VMExternRef, abi, option_from_raw
from externref.ctypes import callback, lent, moved
from support import FAIL_IN_TURN, TESTS, Payload, in_thread, on_native_threads, run_compiler

PAGE = TESTS.parent / "docs/ctypes.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs a checkout")


def blocks(language, heading):
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def library(compilers, tmp_path_factory):
    """The page's C library, as a path."""
    folder = tmp_path_factory.mktemp("library")
    source, = blocks("c", "The C library")
    (folder / "library.c").write_text(source)
    for compiler in compilers:
        run_compiler(compiler, "-O2", "-shared", "-fPIC", folder / "library.c", "-o", folder / "library.so")
    return str(folder / "library.so")


@pytest.fixture
def lib(library):
    """The library by ctypes, with functions of its own for each test; it keeps nothing in the end."""
    lib = ctypes.CDLL(library)
    lib.keep.argtypes, lib.give.argtypes = [VMExternRef], [c_void_p]
    lib.peek.restype, lib.take.restype = lent, moved
    lib.keep.restype = lib.give.restype = None
    yield lib
    lib.take.errcheck, lib.take.restype = lambda result, *call: result, moved
    lib.take()


@pytest.fixture
def ffi():
    return pytest.importorskip("cffi", reason="cffi is not installed").FFI()


def address_of(function):
    return ctypes.cast(function, c_void_p).value


# -- The page

@pytest.mark.parametrize("on", [lambda run: run(), in_thread], ids=["main thread", "another thread"])
@pytest.mark.parametrize("name", ["ctypes", "cffi"])
def test_page(library, name, on):
    if name == "cffi":
        pytest.importorskip("cffi", reason="cffi is not installed")
    scope = {"path": library}
    assert on(lambda: [exec(block, scope) for block in blocks("python", name)] and None) is None
    assert scope["ref"].strong_count == 1
    assert externref.stats() == (2, 2, 0, 0)    # of `ref`, and of what the taker took


@pytest.mark.parametrize("name", ["ctypes", "cffi"])
def test_page_at_exit(run_python, library, name):
    """What it made lives on to the exit, with the library's callbacks, and one reference is the library's."""
    if name == "cffi":
        pytest.importorskip("cffi", reason="cffi is not installed")
    keep = "lib.keep(ref)" if name == "ctypes" else "lib.keep(ffi.cast('void *', ref.as_raw()))"
    code = "import sys\npath = sys.argv[1]\n" + "".join(blocks("python", name)) + keep + "\nprint(ref.strong_count)"
    assert run_python(code, library) == "2\n"


def test_readme_leads_to_it():
    readme = (TESTS.parent / "README.md").read_text()
    assert "(docs/ctypes.md)" in readme and "(docs/owning.md)" in readme


def test_every_function_is_on_the_page():
    page = PAGE.read_text()
    assert all(f"`{name}`" in page for name in externref.ctypes.__all__)


def test_package_imports_neither(run_python):
    assert run_python("import sys, externref; print({'ctypes', '_ctypes', 'cffi', '_cffi_backend'} & set(sys.modules))"
                      ) == "set()\n"


# -- Addresses

def pointers(address, ffi):
    return [address, c_void_p(address), type("Handle", (c_void_p,), {})(address), ffi.cast("void *", address),
            ffi.cast("const void *", address)]


def test_pointers_are_addresses(ffi):
    ref = VMExternRef([])
    def move(kind):
        return pointers(ref.clone().into_raw(), ffi)[kind]

    for kind in range(5):
        assert VMExternRef.from_raw(move(kind)) == ref
        assert option_from_raw(move(kind)) == ref
        pointer = move(kind)
        assert VMExternRef.clone_from_raw(pointer) == ref
        assert ref.strong_count == 2
        VMExternRef.from_raw(pointer)
        with pytest.raises(InvalidRawPointerError, match="no owner to take over"):
            VMExternRef.from_raw(pointer)
        assert ref.strong_count == 1


def test_null_pointers(ffi):
    for null in pointers(0, ffi):
        assert option_from_raw(null) is None
        for take in VMExternRef.from_raw, VMExternRef.clone_from_raw:
            with pytest.raises(InvalidRawPointerError, match="null pointer"):
                take(null)


def test_stale_and_made_up_pointers(ffi):
    ref = VMExternRef(1)
    stale = ref.as_raw()
    ref.drop()
    for take in VMExternRef.from_raw, VMExternRef.clone_from_raw, option_from_raw:
        for pointer in pointers(stale, ffi) + pointers(8, ffi):
            with pytest.raises(InvalidRawPointerError, match="never handed out"):
                take(pointer)
        for pointer in c_void_p(-1), ffi.cast("void *", -1), c_void_p(2**70 + 1):
            with pytest.raises(InvalidRawPointerError, match="misaligned"):
                take(pointer)


def test_other_pointers_are_refused(ffi):
    class Liar:
        __class__ = c_void_p

    kept = VMExternRef(1)
    raw = kept.as_raw()
    for take in VMExternRef.from_raw, VMExternRef.clone_from_raw, option_from_raw:
        for pointer in (ffi.new("void **"), ffi.cast("char *", raw), ffi.new("void *[1]"), ffi.new("int *"),
                        ffi.cast("void (*)(void *)", raw), ffi.cast("uintptr_t", raw)):
            with pytest.raises(TypeError, match=r"expected a cffi 'void \*', not a '.*ffi\.cast"):
                take(pointer)
        for pointer in (ctypes.c_size_t(raw), ctypes.pointer(c_void_p(raw)), ctypes.byref(c_void_p(raw)),
                        ctypes.c_char_p(b""), ctypes.py_object(kept), Liar()):
            with pytest.raises(TypeError, match=r"expected an address as an int, a ctypes\.c_void_p or a cffi"):
                take(pointer)


def test_value_of_a_subclass_is_not_asked():
    class Handle(c_void_p):
        value = property(lambda self: pytest.fail("asked"))

    assert VMExternRef.from_raw(Handle(VMExternRef(5).into_raw())).value == 5


# -- Arguments

@pytest.mark.parametrize("argtypes", [[VMExternRef], [c_void_p], None], ids=["VMExternRef", "c_void_p", "none"])
def test_argument_lends_for_the_call(foreign, argtypes):
    """P3: what was an argument is collected afterwards."""
    function = ctypes.CFUNCTYPE(ctypes.c_size_t)(address_of(foreign.strong_count))
    if argtypes is not None:
        function.argtypes = argtypes
    dropped = []
    cycle = Payload(dropped)
    cycle.ref = ref = VMExternRef(cycle)
    assert [function(ref) for _ in range(3)] == [2, 2, 2]
    assert ref.strong_count == 1 and externref.stats().exposed == 0
    del cycle, ref
    gc.collect()
    assert dropped == [None]


def test_none_is_null(lib):
    lib.keep(VMExternRef(1))
    lib.keep(None)
    assert lib.peek() is None and lib.take() is None


def test_argument_is_an_owner_for_as_long_as_it_lives():
    ref = VMExternRef([])
    for make in lambda ref: ref._as_parameter_, VMExternRef.from_param:
        parameter = make(ref)
        assert isinstance(parameter, c_void_p) and (ref.strong_count, externref.stats().exposed) == (2, 1)
        assert VMExternRef.clone_from_raw(parameter) == ref
        with pytest.raises(InvalidRawPointerError, match="no owner to take over"):
            VMExternRef.from_raw(parameter)
        parameter.value = 0         # the count that it owns is that of the block, whatever it points to
        assert not hasattr(parameter, "owner")
        with pytest.raises(AttributeError):
            del parameter.owner
        parameter.owner = None
        assert not any(thing is parameter for thing in gc.get_objects()) and ref.strong_count == 2
        del parameter
        assert (ref.strong_count, externref.stats().exposed) == (1, 0)


def test_wrapper_is_dropped_in_the_call(foreign):
    """P1: neither drop() nor into_raw() nor the end of the wrapper leaves the callee's pointer dangling."""
    for lose in VMExternRef.drop, lambda ref: VMExternRef.from_raw(ref.into_raw()):
        dropped = []
        ref = VMExternRef(Payload(dropped))

        @ctypes.CFUNCTYPE(ctypes.c_size_t, c_void_p)
        def visit(raw):
            lose(ref)           # noqa: B023
            gc.collect()
            assert dropped == []            # noqa: B023
            return VMExternRef.clone_from_raw(raw).strong_count

        visit.argtypes = [VMExternRef]
        assert visit(ref) == 2
        assert dropped == [None]


def test_wrapper_is_dropped_by_another_thread_in_the_call(foreign):
    dropped = []
    ref = VMExternRef(Payload(dropped))
    foreign.start_hammering.argtypes = [c_void_p]
    with ref.borrow() as raw:
        foreign.start_hammering(raw)
        calls = [threading.Thread(target=lambda: [foreign.strong_count(ref) for _ in range(500)]) for _ in range(4)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        ref.drop()
        foreign.stop_hammering()
        assert dropped == []
    assert dropped == [None]


def test_refused_call_loses_nothing(lib):
    lib.hold = ctypes.CFUNCTYPE(None)(address_of(lib.keep))
    lib.hold.argtypes = [VMExternRef, VMExternRef, c_int]
    ref, spent = VMExternRef([]), VMExternRef(1)
    spent.drop()
    for args, text in [((ref, ref, "1"), "argument 3: "), ((ref, 5, 1), "argument 2: TypeError: expected a VMExternRef"),
                       ((ref, ref.as_raw, 1), "argument 2"), ((spent, ref, 1), "argument 1: MovedError: "),
                       ((ref, c_void_p(8), 1), r"not c_void_p; the argtypes of what is moved, .* ctypes\.c_void_p")]:
        with pytest.raises(ctypes.ArgumentError, match=text):
            lib.hold(*args)
        assert (ref.strong_count, externref.stats().exposed) == (1, 0)
    for value in 5, b"", ref.into_raw, VMExternRef, object():
        with pytest.raises(TypeError, match="expected a VMExternRef or None"):
            VMExternRef.from_param(value)
    for spent_use in (lambda: spent._as_parameter_, lambda: VMExternRef.from_param(spent)):
        with pytest.raises(MovedError):
            spent_use()


def test_long_chain_of_arguments_is_dropped_without_recursion():
    dropped = []
    chain = VMExternRef(Payload(dropped))
    for _ in range(100_000):
        chain = VMExternRef([chain._as_parameter_])
    assert dropped == []
    del chain
    assert dropped == [None]


def test_no_memory_for_an_argument(run_python):
    pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
    assert run_python(FAIL_IN_TURN + """
import externref
from externref import VMExternRef
ref = VMExternRef([])
ref._as_parameter_          # ctypes is imported
def state():
    return ref.strong_count, externref.stats()
parameter = fail_in_turn(lambda: ref._as_parameter_, state)
print(ref.strong_count)
del parameter
print(ref.strong_count, externref.stats().exposed)
""") == "2\n1 0\n"


# -- Results

def test_vmexternref_is_no_restype(lib):
    for refused in (lambda: setattr(lib.take, "restype", VMExternRef), lambda: ctypes.CFUNCTYPE(VMExternRef, c_int),
                    lambda: callback(VMExternRef)):
        with pytest.raises(TypeError, match=r"cannot be a restype.* use externref\.ctypes\.moved"):
            refused()
    ref = VMExternRef([])
    lib.keep(ref)
    assert lib.take() == ref        # as it was before
    assert ref.strong_count == 1


def test_what_refuses_it_is_seen_by_nobody_else():
    assert "_check_retval_" not in dir(VMExternRef)
    assert inspect.getmembers(VMExternRef) and mock.create_autospec(VMExternRef)
    assert isinstance(VMExternRef, type) and VMExternRef.__class__.__mro__[1:] == (type, object)
    assert not isinstance(5, VMExternRef) and isinstance(VMExternRef(5), VMExternRef)
    with pytest.raises(TypeError):
        type("Another", (VMExternRef,), {})


@pytest.mark.parametrize("restype", [moved, type("mine", (moved,), {})])
def test_moved_result(lib, restype, counted):
    lib.take.restype = restype
    lib.give(VMExternRef(counted()).into_raw())
    ref = lib.take()
    assert (ref.strong_count, counted.dropped()) == (1, 0)
    assert lib.take() is None and restype._check_retval_(0) is None
    del ref
    assert counted.dropped() == 1


@pytest.mark.parametrize("restype", [lent, type("mine", (lent,), {})])
def test_lent_result(lib, restype):
    lib.peek.restype = restype
    assert lib.peek() is None
    ref = VMExternRef([])
    lib.keep(ref)
    assert lib.peek() == ref
    assert ref.strong_count == 2
    held = lib.peek()
    assert held == ref and ref.strong_count == 3


def test_moved_result_that_is_lent(foreign, lib):
    identity = ctypes.CFUNCTYPE(moved, c_void_p)(address_of(foreign.identity))
    ref = VMExternRef([])
    with pytest.raises(InvalidRawPointerError, match="only lent"):
        identity(ref)
    assert ref.strong_count == 1
    for made_up in 1, 8, 2**64 - 1:
        with pytest.raises(InvalidRawPointerError):
            identity(made_up)
        with pytest.raises(InvalidRawPointerError):
            ctypes.CFUNCTYPE(lent, c_void_p)(address_of(foreign.identity))(made_up)


def test_result_of_no_restype_is_an_error(lib):
    """ctypes cuts the address to an int: that is one that nobody handed out, or none."""
    lib.take.restype = c_int
    ref = VMExternRef([])
    raw = ref.clone().into_raw()
    lib.give(raw)
    cut = lib.take()
    if cut != raw:
        with pytest.raises(InvalidRawPointerError):
            VMExternRef.from_raw(cut)
    assert VMExternRef.from_raw(raw) == ref


@pytest.mark.parametrize("kind", [moved, lent])
def test_as_errcheck(lib, kind):
    function = lib.take if kind is moved else lib.peek
    function.restype, function.errcheck = c_void_p, kind
    ref = VMExternRef([])
    assert function() is None
    lib.keep(ref)
    assert function() == ref
    raw = ref.clone().into_raw()
    lib.give(raw)
    lib.take.restype, lib.take.errcheck = c_int, kind       # an address cut short
    with pytest.raises(TypeError, match=f"is a restype, .*function.restype = externref.ctypes.{kind.__name__}"):
        lib.take()
    assert VMExternRef.from_raw(raw) == ref
    for call in (5,), (None, None), (5, lib.take, (), 1), (ref, object(), ()):
        with pytest.raises(TypeError, match="is a restype"):
            kind(*call)


@pytest.mark.parametrize("kind", [moved, lent])
def test_as_argument_they_are_refused(lib, kind):
    ref = VMExternRef([])
    lib.keep.argtypes = [kind]
    for value in ref, None, ref.as_raw(), b"", kind():
        with pytest.raises(ctypes.ArgumentError, match=f"externref.ctypes.{kind.__name__} is for results.*VMExternRef"):
            lib.keep(value)
    assert ref.strong_count == 1


def test_results_on_many_threads(counted):
    """P2: each result is one owner, whoever calls."""
    ident = ctypes.CFUNCTYPE(moved, c_void_p)(abi.clone_address)
    drop = ctypes.CFUNCTYPE(None, c_void_p)(abi.drop_address)

    def clone_and_drop():
        for _ in range(200):
            ref = VMExternRef(counted())
            other = ident(ref)
            assert other == ref and ref.strong_count == 2
            drop(other.into_raw())
            assert ref.strong_count == 1

    threads = [threading.Thread(target=clone_and_drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.dropped() == 800


# -- Callbacks

@pytest.fixture
def unraisable(monkeypatch):
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: found.append((type(args.exc_value), args.object)))
    return found


def test_callback_owns_what_is_moved_to_it(lib, counted):
    got = []

    @callback(c_int, moved, lent, c_int)
    def both(owned, lent_to_us, number):
        got.append((owned and owned.strong_count, lent_to_us and lent_to_us.strong_count))
        return number

    ref = VMExternRef(counted())
    assert both(VMExternRef(counted()).into_raw(), ref, 7) == 7
    assert both(None, None, 8) == 8
    assert got == [(1, 3), (None, None)] and ref.strong_count == 1
    assert counted.dropped() == 1


def test_callback_that_returns(lib, counted):
    ref = VMExternRef(counted())
    make = callback(moved, c_int)(lambda n: [lambda: None, lambda: ref, lambda: VMExternRef(counted())][n]())
    for n, owners in (0, None), (1, 2), (2, 1):
        lib.fill(make, n)
        result = lib.take()
        assert (result and result.strong_count) == owners
    del result
    assert (ref.strong_count, counted.dropped()) == (1, 1)


def test_callback_that_raises_gives_zero(lib, counted, unraisable):
    def fail(*args):
        raise KeyboardInterrupt

    lib.give(VMExternRef(counted()).into_raw())
    take = callback(None, moved)(fail)
    lib.hand_over(take)
    assert (counted.dropped(), lib.take()) == (1, None)
    make = callback(moved, c_int)(fail)
    lib.fill(make, 1)
    assert lib.take() is None
    assert callback(c_int, c_int)(fail)(5) == 0 and callback(ctypes.c_double)(fail)() == 0.0
    assert unraisable == 4 * [(KeyboardInterrupt, fail)]


@pytest.mark.parametrize("result", [5, "x", object(), VMExternRef, c_void_p(8), "spent"])
def test_callback_that_returns_no_reference(lib, unraisable, result):
    if result == "spent":
        result = VMExternRef(1)
        result.drop()
    make = callback(moved, c_int)(lambda n: result)
    lib.fill(make, 1)
    assert lib.take() is None
    assert [kind for kind, _ in unraisable] == [MovedError if type(result) is VMExternRef else TypeError]


def test_callback_gets_what_is_none(unraisable, counted):
    """What C code gives that is no reference, or lent where it should be moved, is an error, and the rest not lost."""
    ran = []
    both = callback(None, lent, moved)(lambda *args: ran.append(args))
    both.argtypes = [c_void_p, c_void_p]
    both(8, VMExternRef(counted()).into_raw())
    assert counted.dropped() == 1
    ref = VMExternRef([])
    both(ref, ref)
    assert ref.strong_count == 1
    assert ran == [] and [kind for kind, _ in unraisable] == 2 * [InvalidRawPointerError]


def test_callback_drops_all_that_was_moved_to_it(unraisable, counted):
    """Also what comes after one that is no reference."""
    take = callback(None, moved, moved, moved)(lambda *args: None)
    take.argtypes = [c_void_p, c_void_p, c_void_p]
    take(VMExternRef(counted()).into_raw(), 8, VMExternRef(counted()).into_raw())
    assert counted.dropped() == 2
    assert [kind for kind, _ in unraisable] == [InvalidRawPointerError]


def test_hook_that_raises(lib, monkeypatch, capfd):
    monkeypatch.setattr(sys, "unraisablehook", lambda args: 1 / 0)
    make = callback(moved, c_int)(lambda n: None + n)
    lib.fill(make, 1)
    assert lib.take() is None
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_callback_is_of_the_declared_type(lib):
    lib.visit.argtypes = [ctypes.CFUNCTYPE(None, c_void_p, c_int), c_int]
    seen = []
    lib.visit(callback(None, lent, c_int)(lambda ref, n: seen.append((ref, n))), 3)
    assert seen == [(None, 3)]


def test_what_callbacks_are_made_of():
    with pytest.raises(TypeError, match=r"cannot lend what it returns.*moved"):
        callback(lent, c_int)
    with pytest.raises(TypeError, match="a callback is made of a function, not of int"):
        callback(None, lent)(5)
    with pytest.raises(TypeError):
        callback(5)
    with pytest.raises(TypeError):
        callback(None, "x")


def test_callbacks_on_native_threads(counted):
    """Threads that Python does not know, without the GIL, move references in and lend them."""
    owned = callback(c_void_p, moved)(lambda ref: None)
    cloned = callback(c_void_p, lent)(lambda ref: None)
    kept = [VMExternRef(counted()) for _ in range(4)]
    on_native_threads(*[(address_of(owned), VMExternRef(counted()).into_raw()) for _ in range(8)],
                      *[(address_of(cloned), ref.as_raw()) for ref in kept])
    assert counted.dropped() == 8
    assert [ref.strong_count for ref in kept] == [1, 1, 1, 1]


def test_callback_in_a_cycle_with_what_it_gets(lib, counted):
    """P3: a callback is collected with the references that its function has."""
    def make():
        payload = counted()
        ref = VMExternRef(payload)
        payload.callback = callback(None, lent, c_int)(lambda got, n: ref)
        lib.visit(payload.callback, 1)

    make()
    gc.collect()
    assert counted.dropped() == 1


def test_exit_with_calls_under_way(run_python, library):
    """P8: daemon threads are in calls that lend, and in callbacks, when the interpreter exits."""
    assert run_python("""
import ctypes, sys, threading
from ctypes import c_int
from externref import VMExternRef
from externref.ctypes import callback, lent, moved
lib = ctypes.CDLL(sys.argv[1])
lib.keep.argtypes, lib.peek.restype = [VMExternRef], lent
ref = VMExternRef([])
lib.keep(ref)
see = callback(None, lent, c_int)(lambda got, n: started.set())
started = threading.Event()
def work():
    while True:
        lib.visit(see, 1)
        assert lib.peek() == ref
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
started.wait()
print("done")
""", library) == "done\n"


def test_finalizers_at_exit_that_call(run_python, library):
    """P8: they run when the names of modules are gone."""
    assert run_python("""
import ctypes, os, sys
from externref import VMExternRef
from externref.ctypes import callback, lent, moved
class Late:
    def __init__(self, lib, ref, make, visit, write=os.write):
        self.call = lib, ref, make, visit, write
    def __del__(self):
        lib, ref, make, visit, write = self.call
        lib.keep(ref)
        lib.visit(visit, 1)
        assert lib.peek() == ref
        assert lib.take() == ref
        lib.fill(make, 2)
        assert lib.take() == ref
        assert ref.strong_count == 1
        write(1, b"late\\n")
lib = ctypes.CDLL(sys.argv[1])
lib.keep.argtypes, lib.peek.restype, lib.take.restype = [VMExternRef], lent, moved
ref = VMExternRef([])
late = Late(lib, ref, callback(moved, ctypes.c_int)(lambda n: ref), callback(None, lent, ctypes.c_int)(lambda r, n: None))
sys.late = late
del late, lib, Late
""", library) == "late\n"


def test_finalizers_at_exit_that_are_the_first_with_pointers(run_python, ffi, library):
    """P8: the interpreter's own state goes last, when nothing can be imported."""
    assert run_python("""
import cffi, codecs, ctypes, os, sys
from externref import VMExternRef
class Late:
    def __init__(self, *call):
        self.call = call
    def __del__(self):
        lib, ref, from_raw, pointers, write = self.call
        for pointer in pointers:
            assert from_raw(pointer) == ref
        lib.keep(ref)
        assert from_raw(lib.take()) == ref
        assert ref.strong_count == 1
        write(1, b"late\\n")
def search(name):
    return None
ffi, lib = cffi.FFI(), ctypes.CDLL(sys.argv[1])
lib.keep.argtypes, lib.take.restype = [VMExternRef], ctypes.c_void_p
ref = VMExternRef([])
pointers = [ctypes.c_void_p(ref.clone().into_raw()), ffi.cast("void *", ref.clone().into_raw())]
search.late = Late(lib, ref, VMExternRef.from_raw, pointers, os.write)
codecs.register(search)
""", library) == "late\n"


def test_exit_while_ctypes_is_imported(run_python):
    """P8: by a thread that never comes to the end of that."""
    run_python("""
import sys, threading
from importlib.machinery import ModuleSpec
import externref
begun = threading.Event()
class Endless:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "struct" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        begun.set()
        threading.Event().wait()
sys.meta_path.insert(0, Endless())
sys.modules.pop("struct", None)
threading.Thread(target=lambda: __import__("ctypes"), daemon=True).start()
begun.wait()
assert "ctypes" in sys.modules
""")


def test_exit_where_ctypes_is_another(run_python):
    run_python("import ctypes, externref; ctypes.c_void_p = 5")


def test_libraries_that_are_not_themselves(run_python):
    run_python("""
import ctypes, sys, types
from externref import VMExternRef
ref = VMExternRef([])
def clone():
    return VMExternRef.from_raw(ctypes.c_void_p(ref.clone().into_raw()))
def refusal(call, *args):
    try:
        call(*args)
    except TypeError as error:
        return str(error)
fake = sys.modules["_cffi_backend"] = types.ModuleType("_cffi_backend")
fake._CDataBase = type("CData", (), {})
assert clone() == ref
assert "a ctypes.c_void_p or a cffi" in refusal(VMExternRef.from_raw, "address")
real, sys.modules = sys.modules, {"ctypes": ctypes}
assert clone() == ref
sys.modules = {}
assert clone() == ref
sys.modules = real
c_void_p, shared = ctypes.c_void_p, []
def make_shared(cls):
    shared.append(c_void_p.__new__(cls))
    return shared[0]
for make in lambda cls: 5, lambda cls: lambda: None, make_shared:
    ctypes.c_void_p = type("Evil", (c_void_p,), {"__new__": make})
    assert "ctypes.c_void_p is not ctypes' own" in refusal(VMExternRef.from_param, ref)
ctypes.c_void_p = c_void_p
parameter = ref._as_parameter_
assert ref.strong_count == 2
sys.modules["ctypes"] = None
parameter = ref._as_parameter_          # the class was made
assert ref.strong_count == 2
""")


# name: what stands in ctypes' place, and has all that a class of it is asked for
FAKES = {
    "a class of Python's": "class c_void_p: _as_parameter_ = property(lambda self: self.value)",
    "object": "c_void_p = object",
    # A class of C's that Python may change, before 3.15, of which the collector knows nothing.
    "epoll": """
import select
try:
    select.epoll.owner = select.epoll.value = property(None, lambda self, value: None)
except TypeError:       # 3.15
    pass
class Maker:
    def __new__(cls, *args): return select.epoll
c_void_p = object.__new__(Maker)
""",
    # One whose end, in C, takes for granted that the collector does.
    "typing.Generic": """
import typing
typing.Generic.owner = typing.Generic.value = property(None, lambda self, value: None)
class Maker:
    def __new__(cls, *args): return typing.Generic
c_void_p = object.__new__(Maker)
""",
    "another of ctypes'": "from ctypes import c_long as c_void_p",
    "a structure": "from ctypes import Structure\nclass c_void_p(Structure): _type_ = 'P'",
    "without a base of ctypes'": "import ctypes\nc_void_p = type(ctypes.c_void_p)('c_void_p', (), {'_type_': 'P'})",
    "a hook in the way": """
import ctypes
class c_void_p(ctypes.c_void_p):
    def __init_subclass__(cls): cls.owner = property(None, lambda self, owner: None)
""",
    "a type's code that says what is asked for": """
import ctypes
class Code(str):
    __eq__, __hash__ = lambda self, other: True, str.__hash__
class c_void_p(ctypes.c_int): _type_ = Code("i")
""",
    "a metaclass of Python's": """
import ctypes
class Meta(type(ctypes.c_void_p)): pass
class c_void_p(ctypes.c_void_p, metaclass=Meta): pass
""",
}


@pytest.mark.parametrize("fake", FAKES.values(), ids=FAKES)
def test_a_class_in_the_place_of_c_void_p(run_python, fake):
    """P1: it is refused, and by the next call forgotten, though it did all that is asked of ctypes' own."""
    run_python(f"""
import sys, types
from externref import VMExternRef, abi
{fake}
if "ctypes" in sys.modules:
    import ctypes
    real, ctypes.c_void_p = ctypes.c_void_p, c_void_p
else:
    sys.modules["ctypes"] = types.ModuleType("ctypes")
    sys.modules["ctypes"].c_void_p = c_void_p
for _ in range(50):
    try:
        VMExternRef([])._as_parameter_
    except TypeError as error:
        assert "is not ctypes' own class" in str(error)
    else:
        assert False
if "_ctypes" in sys.modules:
    ctypes.c_void_p = real
else:
    del sys.modules["ctypes"]
    import ctypes
class DropsIt:
    @staticmethod
    def from_param(value):
        ref.drop()      # as another thread may
        return 0
ref = VMExternRef([])
clone = ctypes.CFUNCTYPE(ctypes.c_void_p)(abi.clone_address)
clone.argtypes = [VMExternRef, DropsIt]
assert VMExternRef.from_raw(clone(ref, 1)).value == []
""")


@pytest.mark.parametrize("fake", FAKES.values(), ids=FAKES)
def test_exit_with_a_class_in_the_place_of_c_void_p(run_python, fake):
    """P8: the package's end makes no argument of it."""
    run_python(f"""
import sys, types
import externref
{fake}
sys.modules["ctypes"] = types.ModuleType("ctypes")
sys.modules["ctypes"].c_void_p = c_void_p
""")


@pytest.mark.parametrize("use", ["used before", "not used before"])
def test_ctypes_once_more(run_python, use):
    """Each takes its own arguments, and pointers of each are taken: from CPython 3.13 on their classes have no base in common."""
    run_python("""
import sys
import ctypes as first
from externref import VMExternRef, abi
def call(module):
    for argtypes in None, [VMExternRef]:
        clone = module.CFUNCTYPE(module.c_void_p)(abi.clone_address)
        clone.argtypes = argtypes
        assert VMExternRef.from_raw(clone(ref)) == ref and ref.strong_count == 1
ref = VMExternRef([])
if "used before" in sys.argv:
    call(first)
modules = dict(sys.modules)
for name in [name for name in sys.modules if name.split(".")[0] in ("ctypes", "_ctypes")]:
    del sys.modules[name]
import ctypes
assert ctypes is not first
call(ctypes)
for module in first, ctypes:
    assert VMExternRef.from_raw(module.c_void_p(ref.clone().into_raw())) == ref
sys.modules.update(modules)
call(first)
""", use)


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt", "ValueError"])
def test_exit_with_a_class_that_raises(run_python, error):
    run_python(f"""
import ctypes, externref
class c_void_p(ctypes.c_void_p):
    def __init__(self): raise {error}
ctypes.c_void_p = c_void_p
""")


def test_a_finalizer_cannot_find_what_is_moved_to_a_callback(counted):
    """P3: a collection that making references brings, on 3.11."""
    class Finder:
        def __del__(self):
            for found in gc.get_objects():
                if type(found) is list and len(found) == 20 and found[-1] == raws[-1]:
                    found[-1] = None

    take = callback(None, *[moved] * 20)(lambda *refs: None)
    call = ctypes.PYFUNCTYPE(None, *[c_void_p] * 20)(ctypes.cast(take, c_void_p).value)
    before = gc.get_threshold()
    try:
        for amount in range(30):
            gc.disable()
            raws = tuple(VMExternRef(counted()).into_raw() for _ in range(20))
            finder = Finder()
            finder.itself = finder
            del finder
            gc.set_threshold(gc.get_count()[0] + amount)
            gc.enable()
            call(*raws)
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert counted.dropped() == 600


def test_a_module_that_the_collector_has_cleared(run_python):
    """It has no names. A weak reference that a finalizer made can lead to it."""
    assert run_python("""
import gc, sys, types, weakref
from externref import VMExternRef
class Node: pass
class Finalizer:
    def __del__(self):
        global to_module, to_node
        to_module, to_node = weakref.ref(self.module), weakref.ref(self.module.node, late)
def late(gone):
    module = to_module()
    if module is None:      # as the interpreter's version has it
        return
    for name in "ctypes", "_cffi_backend":
        sys.modules[name] = module
    try:
        VMExternRef.from_raw("x")
    except TypeError:
        print("refused")
gc.disable()
module = types.ModuleType("cleared")
module.itself, module.node, module.finalizer = module, Node(), Finalizer()
module.finalizer.module = module
del module
gc.collect()
""") in ("refused\n", "")


@pytest.mark.parametrize("use, loaded", [("", False), ("VMExternRef([])._as_parameter_", True)])
def test_a_lazy_import_of_ctypes(run_python, use, loaded):
    """P8: the package's end does not make it one that is done."""
    assert run_python(f"""
import atexit, importlib.util, sys
atexit.register(lambda: print("_ctypes" in sys.modules))    # after the package's end
from externref import VMExternRef
spec = importlib.util.find_spec("ctypes")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["ctypes"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
{use}
""") == f"{loaded}\n"


# -- Threads against each other

def test_pointer_that_another_thread_changes(ffi):
    """A c_void_p is read once: what is checked is what is taken."""
    ref = VMExternRef([])
    pointer, stop = c_void_p(), threading.Event()
    addresses = [ref.as_raw(), 8, 0, 2**64 - 1, ref.as_raw() + 8]

    def change():
        while not stop.is_set():
            for address in addresses:
                pointer.value = address

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5000):
            try:
                assert VMExternRef.clone_from_raw(pointer) == ref
            except InvalidRawPointerError:
                pass
            with pytest.raises(InvalidRawPointerError):
                VMExternRef.from_raw(pointer)
    finally:
        stop.set()
        thread.join()
    assert ref.strong_count == 1


def test_a_library_that_another_thread_changes(run_python):
    """P1: what it held is still being looked at."""
    run_python("""
import sys, threading, types
from externref import VMExternRef
sys.modules["_cffi_backend"] = fake = types.ModuleType("_cffi_backend")
fake._CDataBase = []
done = threading.Event()
def change(names=fake.__dict__):
    while not done.is_set():
        for _ in range(1000):
            names["_CDataBase"] = [1]
thread = threading.Thread(target=change)
thread.start()
for _ in range(20_000):
    try:
        VMExternRef.from_raw("x")
    except TypeError:       # a list is no class
        continue
    assert False
done.set()
thread.join()
""", env={"PYTHONMALLOC": "debug"})     # which spoils what is freed


def test_threads_that_pass_drop_and_collect(lib, counted):
    """P1, P2: the one reference that the library keeps is replaced by threads that share it."""
    errors = []

    def work(n):
        try:
            for i in range(300):
                ref = VMExternRef(counted())
                identity(ref)
                assert identity(ref) == ref
                if i % 100 == n:
                    gc.collect()
                ref.drop()
        except BaseException as error:
            errors.append(error)

    identity = ctypes.CFUNCTYPE(moved, VMExternRef)(abi.clone_address)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and counted.dropped() == 1200


@pytest.mark.parametrize("of", ["no class of ours", "another's"])
def test_arguments_whose_class_was_found_and_replaced(run_python, of):
    """P1: gc.get_objects() has the dictionary that keeps it."""
    run_python(f"""
import ctypes, gc
from externref import VMExternRef, abi, stats
VMExternRef(1)._as_parameter_
c_void_p, replaced = ctypes.c_void_p, 0
for found in gc.get_objects():
    if type(found) is dict and None in found and c_void_p in found:
        if {of == "another's"}:
            found[c_void_p] = type(found[c_void_p])()
        else:
            found[c_void_p] = (c_void_p, lambda parameter, owner: None, c_void_p.value.__set__)     # owns nothing
        replaced += 1
assert replaced == 1
class DropsIt:
    @staticmethod
    def from_param(value):
        ref.drop()
        return 0
clone = ctypes.CFUNCTYPE(c_void_p)(abi.clone_address)
clone.argtypes = [VMExternRef, DropsIt]
ref = VMExternRef(["mine"])
assert VMExternRef.from_raw(clone(ref, 1)).value == ["mine"]
""")
