"""externref_api.h: a C and a C++ extension, built against the installed package, use all of it."""

import ctypes
import gc
import importlib.util
import operator
import os
import shutil
import sys
import sysconfig
import weakref
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

import externref
from externref import InvalidRawPointerError, MovedError, VMExternRef, abi, debug
from support import FAIL_IN_TURN, TESTS, load_extension, run_compiler

# Holds the GIL, where the fixture `native` lets it go.
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)

LANGUAGES = {"C99": "-xc -std=c99", "C11": "-xc -std=c11", "C++17": "-xc++ -std=c++17"}


def without_bytecodes_between(*calls):
    """Makes the calls from C, one after the other: no pending call runs between them."""
    return list(map(operator.call, calls))


def build(compiler, folder, language="C99", *options):
    """Compiles the extension into the folder; gives its path. Options go before all else."""
    path = folder / f"capi{EXTENSION_SUFFIXES[0]}"
    run_compiler(compiler, *options, *LANGUAGES[language].split(), "-O2", "-shared", "-fPIC",
                 "-isystem", sysconfig.get_path("include"), TESTS / "c/capi.c", "-o", path)
    return path


@pytest.fixture(scope="session", params=["C99", "C++17"])
def capi_path(request, compilers, tmp_path_factory):
    return build(compilers[0], tmp_path_factory.mktemp("capi"), request.param)


@pytest.fixture(scope="session")
def loaded(capi_path):
    return load_extension(capi_path)


@pytest.fixture
def capi(loaded):
    """The extension. Every payload that it recorded as dropped must have been asked for."""
    yield loaded
    externref.drain()
    assert loaded.take_drops() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_header_is_clean_for_every_compiler(compilers, language, tmp_path):
    for compiler in compilers:
        build(compiler, tmp_path, language, "-Wshadow", "-Wconversion")


# -- The capsule

DOCTORED = {
    "another API": ("externref_api.h", "#define EXTERNREF_API_VERSION ", "9", "C API 91 .* has C API 1 "),
    "another ABI": ("externref.h", "#define EXTERNREF_ABI_VERSION ", "9", r"\(ABI 91, .*\(ABI 1, "),
    "a larger table": ("externref_api.h", "(*hand_out)(void *);", " void (*later)(void);",
                       r"\(ABI 1, \d+ bytes\).*\(ABI 1, \d+ bytes\)"),
}


@pytest.mark.parametrize("case", DOCTORED)
def test_extension_built_with_another_header_is_refused(compilers, tmp_path, case):
    name, place, added, message = DOCTORED[case]
    include = shutil.copytree(externref.get_include(), tmp_path / "include")
    text = (include / name).read_text()
    assert text.count(place) == 1
    (include / name).write_text(text.replace(place, place + added))
    with pytest.raises(ImportError, match=f"compiled against externref's .*{message}.*rebuild this extension"):
        load_extension(build(compilers[0], tmp_path, "C99", "-I", include))


@pytest.mark.parametrize("change, message", [
    ("import externref._core; del externref._core._C_API", "has no C API"),
    ("import externref._core; externref._core._C_API = externref", "has no C API"),
    ("sys.modules['externref'] = None", 'could not import module "externref"'),
])
def test_import_without_a_capsule(run_python, capi_path, change, message):
    run_python(f"""
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
{change}
try:
    module_from_spec(spec_from_loader("capi", ExtensionFileLoader("capi", sys.argv[1])))
except ImportError as error:
    assert {message!r} in str(error), error
else:
    raise AssertionError("imported")
""", capi_path)


# -- Python payloads: who owns what

def test_from_object_boxes_and_its_caller_owns(capi, native):
    value = object()
    references = sys.getrefcount(value)
    raw = capi.from_object(value)
    assert sys.getrefcount(value) == references + 1
    assert externref.stats() == (1, 0, 0, 0)
    native.drop(raw)
    externref.drain()
    assert sys.getrefcount(value) == references


def test_none_and_references_are_boxed_as_any_object(capi):
    ref = VMExternRef("payload")
    for value in (None, ref):
        raw = capi.from_object(value)
        assert raw != 0 and capi.object(raw) is value
        capi.release(raw)
    assert ref.strong_count == 1


def test_wrap_takes_the_count_over(capi):
    value = object()
    references = sys.getrefcount(value)
    raw = capi.from_object(value)
    ref = capi.wrap(raw)
    assert type(ref) is VMExternRef and ref.as_raw() == raw and ref.value is value
    assert (ref.strong_count, sys.getrefcount(value)) == (1, references + 1)
    with pytest.raises(InvalidRawPointerError, match="no owner to take over"):
        capi.wrap(raw)
    assert (ref.strong_count, sys.getrefcount(value)) == (1, references + 1)


def test_wrap_clone_adds_a_count(capi):
    value = object()
    references = sys.getrefcount(value)
    raw = capi.from_object(value)
    first, second = capi.wrap_clone(raw), capi.wrap_clone(raw)
    assert (first.strong_count, sys.getrefcount(value)) == (3, references + 2)
    assert first == second == capi.wrap(raw)        # the count that from_object gave
    assert first.strong_count == 2


def test_unwrap_lends(capi, native):
    ref = VMExternRef("payload")
    raw = capi.unwrap(ref)
    assert (externref.stats().exposed, ref.strong_count) == (1, 1)
    assert raw == ref.as_raw()
    native.clone(raw)
    ref.drop()
    assert capi.take_object(raw) == "payload"


def test_object_gives_a_new_reference_and_keeps_the_count(capi):
    value = object()
    ref = VMExternRef(value)
    references = sys.getrefcount(value)
    assert capi.object(capi.unwrap(ref)) is value
    assert (ref.strong_count, sys.getrefcount(value)) == (1, references)


@pytest.mark.parametrize("wrappers", [0, 1, 2])
@pytest.mark.parametrize("raw_owners", [1, 2])
def test_take_object_moves_the_object_out(capi, native, wrappers, raw_owners):
    value = object()
    references = sys.getrefcount(value)
    raw = capi.from_object(value)
    refs = [capi.wrap_clone(raw) for _ in range(wrappers)]
    for _ in range(raw_owners - 1):
        native.clone(raw)
    for _ in range(raw_owners):
        assert capi.take_object(raw) is value
    assert [ref.strong_count for ref in refs] == [wrappers] * wrappers
    assert sys.getrefcount(value) == references + wrappers


def test_take_object_of_a_count_that_is_pythons(capi):
    """With freed blocks kept: the extension gets the object, Python keeps its own, and it is said."""
    with debug.track(guard=9) as tracker:
        ref = VMExternRef([7])
        assert capi.take_object(ref.as_raw()) == [7]
        assert ref.value == [7] and ref.strong_count == 1
        mistake, = tracker.mistakes()
        assert mistake.startswith("compiled code dropped a reference that Python still owns: list made at")
    del ref


def test_what_an_extension_makes_and_is_lent_is_noted(capi):
    with debug.track() as tracker:
        capi.unwrap(VMExternRef([7]).clone())
        ref = VMExternRef([7])
        capi.unwrap(ref)
        raw = capi.new_with(capi.type(b"Blob", 8, 8, "nothing"), bool)
        assert [[event.what for event in block.history] for block in tracker.live()] == [["made", "lent"], ["made"]]
        capi.release(raw)
    del ref


def test_release_is_immediate(capi, native, make_payload):
    dropped = []
    raw = capi.from_object(make_payload(dropped, "payload"))
    native.clone(raw)
    capi.release(raw)
    assert dropped == []
    capi.release(raw)
    assert dropped == ["payload"] and externref.stats() == (0, 0, 0, 0)


def test_release_beside_a_wrapper(capi, make_payload):
    dropped = []
    raw = capi.from_object(make_payload(dropped, "payload"))
    ref = capi.wrap_clone(raw)
    capi.release(raw)
    assert (ref.strong_count, dropped) == (1, [])
    del ref
    assert dropped == ["payload"]


def test_null_is_none(capi):
    assert capi.unwrap(None) == 0
    assert capi.wrap(0) is capi.wrap_clone(0) is capi.object(0) is capi.take_object(0) is None
    capi.release(0)


def test_raw_pointers_of_the_api_are_those_of_python(capi):
    ref = VMExternRef.from_raw(capi.from_object("payload"))
    assert ref.value == "payload"
    assert capi.wrap(ref.clone().into_raw()) == ref


def test_unwrap_refuses_what_is_no_reference(capi):
    with pytest.raises(TypeError, match="expected a VMExternRef or None, not int"):
        capi.unwrap(3)
    spent = VMExternRef("payload")
    spent.drop()
    with pytest.raises(MovedError):
        capi.unwrap(spent)


def test_wrap_clone_refuses_a_count_at_its_limit(capi):
    ref = VMExternRef("payload")
    count = ctypes.c_size_t.from_address(ref.as_raw())
    count.value = sys.maxsize + 1
    with pytest.raises(OverflowError, match="as many owners as can be counted"):
        capi.wrap_clone(ref.as_raw())
    count.value = 1


@pytest.mark.parametrize("operation", ["from_object", "wrap", "wrap_clone", "new_with"])
def test_the_next_operation_drains(capi, make_payload, operation):
    dropped = []
    raw = capi.from_object("other")
    pending = VMExternRef(make_payload(dropped)).into_raw()
    call = {
        "from_object": partial(capi.from_object, "more"),
        "wrap": partial(capi.wrap, raw),
        "wrap_clone": partial(capi.wrap_clone, raw),
        "new_with": partial(capi.new_with, capi.type(b"Blob", 8, 8, "nothing"), bool),
    }[operation]
    _, before, result, after = without_bytecodes_between(partial(held_drop, pending), dropped.copy, call, dropped.copy)
    assert (len(before), len(after)) == (0, 1)
    for owned in [raw] * (operation != "wrap") + [result] * (operation in ("from_object", "new_with")):
        capi.release(owned)


def test_cycle_through_the_api_is_collected(capi):
    class Node:
        pass

    node = Node()
    node.ref = capi.wrap(capi.from_object(node))
    node.other = capi.wrap(VMExternRef(node).into_raw())
    node = weakref.ref(node)
    gc.collect()
    assert node() is None


# -- Native payloads

def make_native(capi, payload_type, content=b"", how="new_with"):
    """A payload with this content; gives its raw pointer and address."""
    places = []

    def make(address):
        places.append(address)
        ctypes.memmove(address, content, len(content))
        return True

    raw = getattr(capi, how)(payload_type, make)
    return raw, *places


@pytest.mark.parametrize("size", [0, 1, 7, 8, 24, 4096, 1 << 20])
@pytest.mark.parametrize("align", [1, 2, 8, 16, 64, 4096])
@pytest.mark.parametrize("way", ["wrapper", "release", "native drop", "foreign thread"])
def test_native_payload_is_dropped_once_in_place(capi, native, foreign, size, align, way):
    content = bytes(range(1, 255)) * (size // 254 + 1)
    raw, address = make_native(capi, capi.type(b"Blob", size, align), content[:size])
    footer_offset = abi.layout_for(size, align).footer_offset
    assert address % align == 0 and raw == address + footer_offset
    ref = capi.wrap_clone(raw)
    assert ctypes.string_at(address, size) == content[:size]
    assert foreign.strong_count(raw) == ref.strong_count == 2
    if way == "wrapper":
        capi.release(raw)
        assert capi.take_drops() == []
        del ref
    else:
        del ref
        {"release": capi.release, "native drop": native.drop, "foreign thread": foreign.drop_on_thread}[way](raw)
        externref.drain()
    assert capi.take_drops() == [address]
    assert externref.stats() == (0, 0, 0, 0)


def test_native_payload_awaits_the_drain(capi):
    raw, address = make_native(capi, capi.type(b"Blob", 3, 1))
    _, early, drained, late = without_bytecodes_between(
        partial(held_drop, raw), capi.take_drops, externref.drain, capi.take_drops)
    assert (early, drained, late) == ([], 1, [address])


def test_four_threads_own_a_native_payload(capi, native, foreign):
    raw, address = make_native(capi, capi.type(b"Blob", 64, 64))
    for _ in range(3):
        native.clone(raw)
    assert foreign.hammer(raw, 4, 100_000) == 0
    externref.drain()
    assert capi.take_drops() == [address]


def test_native_payload_without_a_drop(capi):
    raw, _ = make_native(capi, capi.type(b"Plain", 8, 8, "nothing"))
    capi.release(raw)
    assert externref.stats() == (0, 0, 0, 0)


def test_native_payload_is_opaque_and_named(capi):
    raw, _ = make_native(capi, capi.type("Größe".encode(), 8, 8, "nothing"))
    ref = capi.wrap(raw)
    assert repr(ref) == f"<externref.VMExternRef at {raw:#x} to 'Größe', strong_count 1>"
    for look in (lambda: ref.value, lambda: capi.object(raw), lambda: capi.take_object(raw)):
        with pytest.raises(TypeError, match="native 'Größe'"):
            look()
    assert ref.strong_count == 1        # take_object failed: the caller still owned
    assert not ref.is_(object)
    assert ref.downcast_ref(object) is None
    gc.collect()                        # the collector looks at the wrapper, not behind it
    assert ref.clone() == ref


def test_native_payload_name_need_not_be_utf8(capi):
    ref = capi.wrap(make_native(capi, capi.type(b"\xff", 8, 8, "nothing"))[0])
    assert "to '�'" in repr(ref)


def test_native_payload_goes_through_python_as_any_reference(capi):
    raw, address = make_native(capi, capi.type(b"Blob", 8, 8))
    ref = VMExternRef.from_raw(raw)     # new_with's pointer is one that Python accepts
    clone = ref.clone()
    assert VMExternRef.from_raw(ref.into_raw()).strong_count == 2
    with clone.borrow() as lent:
        assert VMExternRef.clone_from_raw(lent) == clone
    del ref, clone
    assert capi.take_drops() == [address]


@pytest.mark.parametrize("link", ["native drop", "release"])
def test_long_chain_of_native_payloads_is_dropped_without_recursion(capi, native, link):
    link_type = capi.type(b"Link", ctypes.sizeof(ctypes.c_void_p), 8, "reference")
    raw = capi.new_chain(link_type, capi.from_object("the end"), 1_000_000)
    (native.drop if link == "native drop" else capi.release)(raw)


def raise_from_make(address):
    raise LookupError("from init")


def no_exception(address):
    return False


@pytest.mark.parametrize("init, error, message", [
    (raise_from_make, LookupError, "from init"), (no_exception, RuntimeError, "init function of 'Blob' failed"),
])
def test_init_that_fails_leaks_nothing_and_drops_nothing(capi, init, error, message):
    blob = capi.type(b"Blob", 100, 32)
    for _ in range(100):
        with pytest.raises(error, match=message):
            capi.new_with(blob, init)
        assert externref.stats() == (0, 0, 0, 0)
    assert capi.take_drops() == []


@pytest.mark.parametrize("take", [VMExternRef.from_raw, VMExternRef.clone_from_raw])
def test_half_made_payload_is_nobodys(capi, take):
    def make(address):
        # An address that init's Python code can guess, or has from an earlier block.
        with pytest.raises(InvalidRawPointerError):
            take(address + abi.layout_for(8, 8).footer_offset)
        return False

    with pytest.raises(RuntimeError, match="init function"):
        capi.new_with(capi.type(b"Blob", 8, 8), make)


@pytest.mark.parametrize("align", [0, 3, 24, sys.maxsize])
def test_type_refuses_an_align_that_is_no_power_of_two(capi, align):
    with pytest.raises(ValueError, match=f"power of two, not {align}"):
        capi.type(b"Blob", 8, align)


@pytest.mark.parametrize("size, align", [(sys.maxsize, 8), (-1, 8), (8, -sys.maxsize - 1), (sys.maxsize - 100, 1 << 62)])
def test_type_refuses_what_does_not_fit_in_memory(capi, size, align):
    with pytest.raises(OverflowError, match="does not fit in memory"):
        capi.type(b"Blob", size, align)


def test_payload_too_large_for_memory(capi):
    huge = capi.type(b"Huge", sys.maxsize // 2, 8)
    with pytest.raises(MemoryError, match="no memory for a native 'Huge' of"):
        capi.new_with(huge, no_exception)
    assert externref.stats() == (0, 0, 0, 0)


# -- In a process of their own

PRELUDE = """
import ctypes, gc, sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
import externref
from externref import VMExternRef, abi
drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
capi = module_from_spec(spec_from_loader("capi", ExtensionFileLoader("capi", sys.argv[1])))
blob = capi.type(b"Blob", 8, 8)
def make(address): return True
"""


on_plain_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ,
    reason="preloads a library or reads /proc; a sanitizer, preloaded, keeps freed memory")


@pytest.mark.parametrize("owner", [
    "raw", "ref = capi.wrap(raw)", "refs = [capi.wrap(raw)]; refs.append(refs); del refs", "drop(raw)",
    "import atexit; atexit.register(drop, raw)",
    "class Late:\n    def __del__(self, drop=drop, raw=raw): drop(raw)\nsys.late = Late()",
])
def test_exit_with_a_native_payload(run_python, capi_path, owner):
    run_python(PRELUDE + f"raw = capi.new_with(blob, make)\n{owner}", capi_path)


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python lacks _testcapi")
@pytest.mark.parametrize("operation", [
    "capi.from_object(value)", "capi.wrap(raw)", "capi.wrap_clone(raw)", "capi.object(raw)", "capi.take_object(raw)",
    "capi.release(raw)", "capi.type(b'Blob', 8, 8)", "capi.new_with(blob, make)",
])
def test_each_allocation_of_an_operation_fails_in_turn(run_python, capi_path, operation):
    run_python(PRELUDE + FAIL_IN_TURN + f"""
value = ["kept"]
hold = [VMExternRef(i) for i in range(600)]     # the free lists are empty
raw = capi.from_object(value)
others = [VMExternRef(i) for i in range(31)]
for other in others: other.as_raw()             # the next address to be handed out grows the table
count = ctypes.c_size_t.from_address(raw)
made = []
def make(address):
    made.append(address)
    return True
def state():
    # A payload is made and dropped if there is no memory for the int that new_with gives.
    all_dropped = capi.take_drops() == made
    made.clear()
    return externref.stats(), sys.getrefcount(value), count.value, all_dropped
assert state()[3]
fail_in_turn(lambda: {operation}, state)
""", capi_path)


@on_plain_linux
@pytest.mark.parametrize("function", ["from_object", "new_with"])
def test_no_memory_for_a_block(run_python, capi_path, compilers, tmp_path, function):
    library = tmp_path / "failing_alloc.so"
    run_compiler(compilers[0], "-shared", "-fPIC", TESTS / "c/failing_alloc.c", "-o", library)
    run_python(PRELUDE + f"""
fails = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[2]), "aligned_alloc_fails")
value = ["kept"]
before = externref.stats(), sys.getrefcount(value)
fails.value = 1
try:
    {"capi.from_object(value)" if function == "from_object" else "capi.new_with(blob, make)"}
except MemoryError as error:
    assert "no memory for a" in str(error)
else:
    raise AssertionError("made without memory")
assert (externref.stats(), sys.getrefcount(value)) == before
""", capi_path, library, env={"LD_PRELOAD": str(library)})


@on_plain_linux
@pytest.mark.parametrize("loop", [
    "capi.release(capi.from_object(value))", "capi.take_object(capi.from_object(value))",
    "drop(capi.new_with(blob, make))", "capi.wrap(capi.new_with(blob, make))", "fail(page)",
])
def test_memory_stays_flat(run_python, capi_path, loop):
    run_python(PRELUDE + f"""
value = object()
page = capi.type(b"Page", 4096, 4096)
def fail(payload_type):
    try:
        capi.new_with(payload_type, lambda address: False)
    except RuntimeError:
        pass
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
def work(n):
    for _ in range(n):
        {loop}
work(2_000)
before = resident()
work(50_000)
externref.drain()
assert resident() - before < 1 << 20, resident() - before
assert externref.stats() == (0, 0, 0, 0)
""", capi_path)
