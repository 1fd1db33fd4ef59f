"""The C++ headers: externref::Ref alone, with Python, with pybind11 and with nanobind. Promises P2, P4, P8."""

import ctypes
import gc
import importlib.util
import operator
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import weakref
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest

import externref
from externref import MovedError, VMExternRef
from support import FAIL_IN_TURN, TESTS, run_compiler

STANDARDS = ["-std=c++17", "-std=c++20"]
STRICT = ["-Wpedantic", "-Wshadow", "-Wconversion"]
PYTHON = ["-isystem", sysconfig.get_path("include")]
EXTENSION = ["-shared", "-fPIC", "-pthread", *PYTHON]
BINDINGS = ["pybind11", "nanobind"]


@pytest.fixture(scope="module")
def compilers():
    """The C++ compilers found, g++ and clang++ or whatever c++ is."""
    found = [path for path in map(shutil.which, ("g++", "clang++")) if path]
    found = found or [path for path in [shutil.which(os.environ.get("CXX", "c++"))] if path]
    return found or pytest.skip("no C++ compiler found: install g++")


@pytest.fixture(scope="module")
def library_of(compilers, tmp_path_factory):
    """What a module that is bound by pybind11 or nanobind is compiled with, and linked to."""
    made = {}

    def make(binding):
        module = pytest.importorskip(binding, reason=f"{binding} is not installed")
        folder = Path(module.__file__).parent
        options = ["-isystem", folder / "include", "-fvisibility=hidden"]
        if binding == "nanobind":
            options.append("-DNANOBIND")
            if sysconfig.get_config_var("Py_GIL_DISABLED"):
                options.append("-DNB_FREE_THREADED")
            library = tmp_path_factory.mktemp("nanobind") / "nanobind.o"
            command = [compilers[0], "-std=c++17", "-fPIC", "-fno-strict-aliasing", *options, *PYTHON, "-isystem",
                       folder / "ext/robin_map/include", "-c", folder / "src/nb_combined.cpp", "-o", library]
            result = subprocess.run(command, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            options.append(library)
        return options

    return lambda binding: made[binding] if binding in made else made.setdefault(binding, make(binding))


def build(compiler, name, folder, *options):
    """Compiles an extension into the folder; gives its path."""
    path = folder / f"{name}{EXTENSION_SUFFIXES[0]}"
    run_compiler(compiler, "-std=c++17", *EXTENSION, *options, "-o", path)
    return path


def load(path):
    name = path.name.partition(".")[0]
    spec = importlib.util.spec_from_file_location(name, path, loader=ExtensionFileLoader(name, str(path)))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- Every compiler and standard, without a warning

@pytest.mark.parametrize("standard", STANDARDS)
def test_headers_are_clean(compilers, standard):
    for compiler in compilers:
        run_compiler(compiler, standard, *STRICT, "-fsyntax-only", TESTS / "cpp/owners.cpp")
        run_compiler(compiler, standard, *STRICT, *PYTHON, "-fsyntax-only", TESTS / "cpp/plain.cpp")


@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("binding", BINDINGS)
def test_casters_are_clean(compilers, binding, standard):
    module = pytest.importorskip(binding, reason=f"{binding} is not installed")
    for compiler in compilers:
        run_compiler(compiler, standard, *STRICT, *PYTHON, f"-D{binding.upper()}", "-fsyntax-only", "-isystem",
                     Path(module.__file__).parent / "include", TESTS / "cpp/bound.cpp")


def test_every_member_is_in_the_docs():
    include = Path(externref.get_include())
    public = (include / "externref.hpp").read_text().partition("public:")[2].partition("private:")[0]
    members = set(re.findall(r"^    (?:\[\[nodiscard\]\] )?(?:static )?[\w:]+ \**(\w+)\(", public, re.MULTILINE))
    page = (TESTS.parent / "docs/cpp.md").read_text(encoding="utf-8")
    assert len(members) == 15
    assert {name for name in members if not re.search(rf"\b{name}\b", page)} == set()


# -- A program without Python

FINAL = "made 8, dropped 8, writes seen 20000\n"
SANITIZERS = {
    "none": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}


def run_owners(compiler, folder, *options):
    program = folder / "owners"
    run_compiler(compiler, *options, "-O1", "-g", "-pthread", TESTS / "cpp/owners.cpp", "-o", program)
    return subprocess.run([program], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"})


@pytest.fixture(scope="module")
def sanitizing(compilers, tmp_path_factory):
    """The compilers that have a sanitizer, whose programs run here."""
    source = tmp_path_factory.mktemp("sanitizers") / "empty.cpp"
    source.write_text("int main() {}\n")

    def runs(compiler, options):
        program = source.with_suffix("")
        return (subprocess.run([compiler, *options, source, "-o", program], capture_output=True).returncode == 0
                and subprocess.run([program], capture_output=True).returncode == 0)

    def find(name):
        found = [compiler for compiler in compilers if runs(compiler, SANITIZERS[name])]
        return found or pytest.skip(f"no compiler has the sanitizer: {name}")

    return find


@pytest.mark.parametrize("sanitizer, standard", [("none", STANDARDS[0]), *((name, STANDARDS[-1]) for name in SANITIZERS)])
def test_owners_leave_exact_counts(sanitizing, sanitizer, standard, tmp_path):
    for compiler in sanitizing(sanitizer):
        result = run_owners(compiler, tmp_path, standard, *SANITIZERS[sanitizer])
        assert (result.returncode, result.stdout, result.stderr) == (0, FINAL, "")


@pytest.mark.parametrize("old, new", [
    ("raw_(externref_clone(other.raw_))", "raw_(other.raw_)"),
    ("raw_(std::exchange(other.raw_, nullptr))", "raw_(other.raw_)"),
    ("return Ref(externref_clone(raw));", "return Ref(raw);"),
    ("return std::exchange(raw_, nullptr);", "return raw_;"),
    ("        externref_drop(raw_);", ""),
    ("Ref().swap(*this);", "externref_drop(raw_); raw_ = nullptr;"),
    ("        swap(other);\n        return", "externref_drop(raw_); raw_ = other.into_raw();\n        return"),
    ("return std::less<void *>()(left.raw_, right.raw_);", "return right.raw_ != left.raw_;"),
    ("return std::hash<void *>()(ref.as_raw());", "return std::hash<const void *>()(&ref);"),
], ids=["copy", "move", "clone_from_raw", "into_raw", "destructor", "reset", "assignment", "order", "hash"])
def test_a_mistake_in_the_header_is_told(sanitizing, tmp_path, old, new):
    include = shutil.copytree(externref.get_include(), tmp_path / "include")
    text = (include / "externref.hpp").read_text()
    assert text.count(old) == 1
    (include / "externref.hpp").write_text(text.replace(old, new))
    result = run_owners(sanitizing("address")[0], tmp_path, "-I", include, "-std=c++17", *SANITIZERS["address"])
    assert result.returncode != 0


# -- Python's C API: an extension of two files

@pytest.fixture(scope="module")
def plain_path(compilers, tmp_path_factory):
    return build(compilers[0], "plain", tmp_path_factory.mktemp("plain"), TESTS / "cpp/plain.cpp", TESTS / "cpp/plain_more.cpp")


@pytest.fixture(scope="module")
def plain(plain_path):
    return load(plain_path)


def test_from_object_boxes_anything(plain, make_payload):
    dropped = []
    for value in (make_payload(dropped, "payload"), None, VMExternRef(1)):
        references = sys.getrefcount(value)
        raw = plain.from_object(value)
        assert plain.object(raw) is value
        assert value is None or sys.getrefcount(value) == references + 1
        ref = VMExternRef.from_raw(raw)
        assert ref.value is value and ref.strong_count == 1
    del value, ref
    assert dropped == ["payload"]


def test_from_python_is_what_a_parameter_takes(plain):
    ref = VMExternRef("payload")
    assert plain.from_python(None) == 0
    raw = plain.from_python(ref)
    assert (raw, ref.strong_count) == (ref.as_raw(), 2)
    assert plain.moved_to_python(raw) == "payload" and ref.strong_count == 1
    raw = plain.from_python("other")
    assert plain.to_python(raw) == plain.moved_to_python(raw) == "other"
    assert externref.stats().live_blocks == 1


def test_unwrap_adds_an_owner_and_lends_nothing(plain):
    ref = VMExternRef("payload")
    raw = plain.unwrap(ref)
    assert (ref.strong_count, externref.stats()) == (2, (1, 1, 0, 0))
    assert plain.wrap(raw) == ref
    assert VMExternRef.from_raw(raw) == ref
    assert plain.unwrap(None) == 0
    with pytest.raises(TypeError, match="expected a VMExternRef or None, not str"):
        plain.unwrap("payload")
    ref.drop()
    for take in (plain.unwrap, plain.from_python):
        with pytest.raises(MovedError):
            take(ref)


def test_cycle_through_what_was_unwrapped_is_collected_afterwards(plain):
    class Node:
        pass

    node = Node()
    node.ref = VMExternRef(node)
    raw = plain.unwrap(node.ref)
    node = weakref.ref(node)
    gc.collect()
    assert node() is not None
    assert plain.drop_now(raw)
    gc.collect()
    assert node() is None


def test_wrap_adds_an_owner(plain):
    raw = plain.from_object("payload")
    first, second = plain.wrap(raw), plain.wrap(raw)
    assert first == second and first.strong_count == 3
    assert plain.drop_now(raw) and first.strong_count == 2


def test_null_is_none(plain):
    assert plain.object(0) is plain.wrap(0) is plain.to_python(0) is plain.moved_to_python(0) is None
    assert plain.drop_now(0)


def test_drop_now_is_immediate(plain, native, make_payload):
    dropped = []
    raw = plain.from_object(make_payload(dropped, "payload"))
    native.clone(raw)
    assert plain.drop_now(raw) and dropped == []
    # From C, one after the other: no pending call runs between them.
    _, dropped = map(operator.call, (partial(plain.drop_now, raw), dropped.copy))
    assert dropped == ["payload"]
    assert externref.stats() == (0, 0, 0, 0)


def test_native_payload_comes_out_as_its_reference(plain):
    raw = plain.native()
    with pytest.raises(TypeError, match="native 'Blob'"):
        plain.object(raw)
    ref = plain.to_python(raw)
    assert type(ref) is VMExternRef and ref.strong_count == 2
    other = plain.moved_to_python(raw)
    assert other == ref and ref.strong_count == 2


def test_wrap_refuses_a_count_at_its_limit(plain):
    raw = plain.from_object("payload")
    count = ctypes.c_size_t.from_address(raw)
    count.value = sys.maxsize + 1
    with pytest.raises(OverflowError, match="as many owners as can be counted"):
        plain.wrap(raw)
    count.value = 1
    assert plain.drop_now(raw)


def test_extensions_do_not_share_what_they_found(plain_path):
    """Each looks for itself whether the package fits the headers that it was compiled with."""
    library = ctypes.CDLL(str(plain_path))
    assert library.PyInit_plain
    for name in ("_ZN9externref6detail3apiE", "_ZN9externref6detail12wrapper_typeE"):
        with pytest.raises(AttributeError):
            getattr(library, name)


LOAD = """
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
name, path = sys.argv[1:3]
loader = ExtensionFileLoader(name, path)
module = module_from_spec(spec_from_loader(name, loader))
loader.exec_module(module)
"""


@pytest.mark.parametrize("first", ["from_object", "from_python", "unwrap", "object", "wrap", "to_python"])
def test_package_is_imported_by_the_first_use(run_python, plain_path, first):
    run_python(LOAD + f"""
assert "externref" not in sys.modules
sys.modules["externref"] = None
for _ in range(2):
    for call in (lambda: module.{first}(0), module.import_api):
        try:
            call()
        except ImportError as error:
            assert "externref" in str(error), error
        else:
            raise AssertionError("imported")
del sys.modules["externref"]
try:
    module.{first}(0)
except TypeError as error:
    assert "expected a VMExternRef or None" in str(error)
module.import_api()
assert "externref" in sys.modules
""", "plain", plain_path)


def test_first_use_while_another_stands_for_the_class(run_python, plain_path):
    """As a mock does, for a test of the code around it. The class that was found is kept for ever."""
    run_python(LOAD + """
from unittest import mock
import externref
from externref import VMExternRef
ref = VMExternRef(["payload"])
with mock.patch("externref.VMExternRef") as other:
    for value in ref, other:
        raw = module.from_python(value)
        assert module.moved_to_python(raw) is (ref.value if value is ref else other)
assert module.unwrap(ref) == ref.as_raw()
assert module.drop_now(ref.as_raw()) and ref.strong_count == 1
del ref
assert externref.stats() == (0, 0, 0, 0)
""", "plain", plain_path)


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python lacks _testcapi")
@pytest.mark.parametrize("operation", [
    "from_object(value)", "from_python(value)", "from_python(ref)", "unwrap(ref)", "object(raw)", "wrap(raw)",
    "to_python(raw)", "moved_to_python(raw)", "to_python(native)", "moved_to_python(native)", "keep(value)",
])
def test_each_allocation_of_an_operation_fails_in_turn(run_python, plain_path, operation):
    run_python(LOAD + FAIL_IN_TURN + f"""
import ctypes
import externref
from externref import VMExternRef
module.import_api()
value, ref = ["kept"], VMExternRef(["lent"])
module.keep(["other"])
hold = [VMExternRef(i) for i in range(600)]     # the free lists are empty
raw, native = module.from_object(value), module.native()
others = [VMExternRef(i) for i in range(30)]
for other in others: other.as_raw()             # the next address to be handed out grows the table
def state():
    counts = [ctypes.c_size_t.from_address(address).value for address in (raw, native)]
    return externref.stats(), sys.getrefcount(value), ref.strong_count, counts
fail_in_turn(lambda: module.{operation}, state)
""", "plain", plain_path)


# -- pybind11 and nanobind: one module

@pytest.fixture(scope="module", params=BINDINGS)
def bound_path(request, compilers, library_of, tmp_path_factory):
    return build(compilers[0], "bound", tmp_path_factory.mktemp(request.param), *STRICT, TESTS / "cpp/bound.cpp",
                 *library_of(request.param))


PRELUDE = LOAD + """
import gc, operator, os, threading, time, weakref
from functools import partial
import externref
from externref import MovedError, VMExternRef
class Node: pass
class Loud:
    def __init__(self, text): self.text = text
    def __del__(self, write=os.write): write(1, self.text + b"\\n")
bound = module
externref.set_drain("main")
def at_once(*calls):
    "Makes the calls from C, one after the other: no pending call runs between them."
    return list(map(operator.call, calls))
"""

# name: program. Each ends with no block alive.
USES = {
    "objects in and out": """
for value in (Node(), 1, "text", Node, None):
    references = sys.getrefcount(value)
    for identity in (bound.identity, bound.identity_const, bound.identity_pointer, bound.cast_twice):
        for _ in range(100):
            assert identity(value) is value
    assert sys.getrefcount(value) <= references + 5     # of an immortal, or a small int, others make some
assert bound.no_pointer() is None
""",
    "null is None": """
assert bound.is_null(None) and not bound.is_null(0)
assert bound.count(None) == bound.address(None) == 0 and bound.wrap(None) is None
""",
    "a parameter's box ends with the call": """
node = Node(); gone = weakref.ref(node)
assert at_once(partial(bound.count, node), externref.stats) == [1, (0, 0, 0, 0)]
try:
    bound.fail(node)
except RuntimeError as error:
    assert str(error) == "failed"
    error.__traceback__ = None
assert externref.stats() == (0, 0, 0, 0) and sys.getrefcount(node) == 2
del node
assert gone() is None
""",
    "a VMExternRef is one more owner": """
ref = VMExternRef(Node())
assert (bound.count(ref), ref.strong_count) == (2, 1)
assert bound.identity(ref) is ref.value and bound.wrap(ref) == ref
assert externref.stats() == (1, 1, 0, 0)        # nothing is lent
assert bound.address(ref) == ref.as_raw()
wrapped = bound.wrap("text")
assert type(wrapped) is VMExternRef and wrapped.value == "text" and wrapped.strong_count == 1
""",
    "a spent wrapper": """
ref = VMExternRef(1); ref.drop()
for refuse in (bound.identity, bound.identity_const, bound.identity_pointer, bound.keep, bound.either):
    try:
        refuse(ref)
    except MovedError:
        pass
    else:
        raise AssertionError("taken")
for refuse in (bound.cast_twice, lambda ref: bound.reversed([ref])):
    try:
        refuse(ref)
    except (MovedError, TypeError, RuntimeError):       # nanobind's own
        pass
    else:
        raise AssertionError("taken")
""",
    "kept, given and taken": """
node = Node()
bound.keep(node)
assert (sys.getrefcount(node), externref.stats()) == (3, (1, 0, 0, 0))
assert bound.kept() is node and sys.getrefcount(node) == 3
taken, stats = at_once(bound.take, externref.stats)
assert taken is node and stats == (0, 0, 0, 0) and bound.kept() is None
del taken
assert (sys.getrefcount(node), externref.stats()) == (2, (0, 0, 0, 0))
""",
    "containers": """
ref, node = VMExternRef(2), Node()
assert bound.reversed([node, None, ref]) == [2, None, node] and bound.reversed([]) == []
externref.drain()
assert ref.strong_count == 1 and sys.getrefcount(node) == 2
""",
    "overloads": """
assert (bound.either(1), bound.either("text"), bound.either(None)) == ("an int", "an object", "an object")
""",
    "native payloads": """
ref = bound.native()
assert type(ref) is VMExternRef and ref.strong_count == 1 and "Blob" in repr(ref)
assert bound.identity(ref) == ref == bound.identity_const(ref) and ref.strong_count == 1
""",
    "lambdas on threads without the GIL": """
ref = VMExternRef(Node())
gone = weakref.ref(ref.value)
bound.copy_on_threads(ref, 4, 20_000)
assert ref.strong_count == 1
before = threading.active_count()
threads = [threading.Thread(target=bound.copy_on_threads, args=(ref, 2, 5_000)) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert ref.strong_count == 1
bound.copy_on_threads(ref.value, 4, 1_000)     # a box whose last owner is a thread
externref.drain()
assert externref.stats() == (1, 1, 0, 0)
del ref
assert gone() is None
""",
    "the last owner is a thread": """
for _ in range(100):
    node = Node(); gone = weakref.ref(node)
    bound.drop_on_thread(node)
    del node
    externref.drain()
    assert gone() is None and externref.stats() == (0, 0, 0, 0)
""",
    "called from a thread": """
calls = []
bound.call_on_thread(calls.append, "text")
bound.call_on_thread(calls.append, None)
assert calls == ["text", None]
""",
    "a cycle through what C++ has let go of": """
node = Node(); node.ref = VMExternRef(node)
bound.keep(node.ref); gone = weakref.ref(node)
del node
gc.collect()
assert gone() is not None
bound.keep(None)
externref.drain()
gc.collect()
assert gone() is None
""",
}


@pytest.mark.parametrize("case", USES)
def test_uses(run_python, bound_path, case):
    run_python(PRELUDE + USES[case] + """
externref.drain()
for name in ("ref", "wrapped", "refuse"): globals().pop(name, None)
gc.collect()
assert externref.stats() == (0, 0, 0, 0), externref.stats()
""", "bound", bound_path)


# name: (program, what it must print). Return code 0, and nothing on standard error.
EXITS = {
    "a static Ref": ("bound.keep(Loud(b'dropped'))", ""),
    "a static Ref and a wrapper": ("ref = VMExternRef(Loud(b'dropped')); bound.keep(ref)", ""),
    "a static Ref that is emptied": ("bound.keep(Loud(b'dropped')); bound.keep(None)", "dropped\n"),
    "a thread that copies for ever": ("ref = VMExternRef(Loud(b'dropped')); bound.copy_for_ever(ref)", ""),
    "a thread that drops last owners": ("bound.drop_meanwhile([Node() for _ in range(200_000)])", ""),
    "a drop by atexit": ("import atexit\natexit.register(bound.keep, None); bound.keep(Loud(b'dropped'))", "dropped\n"),
}


@pytest.mark.parametrize("case", EXITS)
def test_exit(run_python, bound_path, case):
    program, expected = EXITS[case]
    assert run_python(PRELUDE + program, "bound", bound_path) == expected


# -- The blocks of docs/cpp.md

def blocks(language):
    page = TESTS.parent / "docs/cpp.md"
    if not page.is_file():
        return []
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def block_of(header):
    found, = [block for block in blocks("cpp") if f'#include "{header}"' in block]
    return found


@pytest.mark.parametrize("standard", STANDARDS)
def test_docs_without_python(compilers, standard, tmp_path):
    source = tmp_path / "listeners.cpp"
    source.write_text(block_of("externref.hpp"))
    for compiler in compilers:
        run_compiler(compiler, standard, "-fsyntax-only", source)


# module: (what its block includes, the binding, a program, what it prints)
MODULES = {
    "keeper": ("externref_python.hpp", None, "import keeper; keeper.keep('kept'); print(keeper.get())", "kept\n"),
    "jobs": ("externref_pybind11.hpp", "pybind11", "".join(blocks("python")), "called\n"),
    "calls": ("externref_nanobind.hpp", "nanobind", "import calls; calls.call(lambda: print('called'))", "called\n"),
}


@pytest.mark.parametrize("name", MODULES)
def test_docs_module(run_python, compilers, library_of, tmp_path, name):
    header, binding, program, printed = MODULES[name]
    source = tmp_path / f"{name}.cpp"
    source.write_text(block_of(header))
    build(compilers[0], name, tmp_path, source, *(library_of(binding) if binding else ()))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert run_python(program, env={"PYTHONPATH": path}) == printed


def test_every_block_of_the_docs_is_one_of_these():
    assert len(blocks("cpp")) == 1 + len(MODULES) and len(blocks("python")) == 1
    assert len(blocks(r"\w+")) == 2 + len(MODULES)
