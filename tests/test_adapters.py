"""externref_adapters.h, alone and against numpy and pyarrow: exact counts, threads without the GIL, exit.

Promises P2 and P8. What the libraries import are the examples' extension modules.
"""

import ctypes
import gc
import os
import subprocess

import pytest

import externref
from externref import VMExternRef, abi
from support import TESTS, build_extension, load_extension, on_native_threads, run_compiler, wait_until_drained

EXAMPLES = TESTS.parent / "examples"
LANGUAGES = {"C99": "-xc -std=gnu99", "C11": "-xc -std=gnu11", "C++17": "-xc++ -std=c++17"}
FINAL = "freed by tensors 500, by arrays 500; released 2001\n"


# -- The header, without Python

def build_and_run(compiler, folder, *options):
    program = folder / "adapters"
    run_compiler(compiler, "-O1", "-g", "-pthread", "-Wshadow", "-Wconversion", *options, TESTS / "c/adapters.c",
                 "-o", program)
    result = subprocess.run([program], capture_output=True, text=True, timeout=300,
                            env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"})
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_reference_is_dropped_once(compilers, language, tmp_path):
    for compiler in compilers:
        assert build_and_run(compiler, tmp_path, *LANGUAGES[language].split()) == (0, FINAL, "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_structures_are_those_of_the_projects(compilers, language, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: it has the projects' headers")
    for compiler in compilers:
        assert build_and_run(compiler, tmp_path, *LANGUAGES[language].split(), "-DREAL",
                             "-isystem", pyarrow.get_include()) == (0, FINAL, "")


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_adapters_under_a_sanitizer(compilers, sanitizer, tmp_path):
    option = f"-fsanitize={sanitizer}"
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    found = [compiler for compiler in compilers
             if subprocess.run([compiler, option, tmp_path / "empty.c", "-o", tmp_path / "empty"],
                               capture_output=True).returncode == 0
             and subprocess.run([tmp_path / "empty"], capture_output=True).returncode == 0]
    for compiler in found:
        assert build_and_run(compiler, tmp_path, option) == (0, FINAL, "")
    if not found:
        pytest.skip(f"no compiler has {option}")


# -- Memory that is shared

class Memory(bytearray):
    """Its deaths are counted. Somebody looks into it as long as it cannot grow."""

    def __init__(self, died):
        super().__init__(range(100))
        self.died = died

    def __del__(self):
        self.died.append(len(self))

    @property
    def shared(self):
        try:
            self.append(0)
        except BufferError:
            return True
        self.pop()
        return False


@pytest.fixture
def make_memory():
    """Makes memory to share. All of it must be given back, once, when the test ends."""
    memories, died = [], []

    def make():
        memories.append(Memory(died))
        return memories[-1]

    yield make
    gc.collect()
    wait_until_drained()
    assert [memory.shared for memory in memories] == [False] * len(memories)
    assert died == []
    memories, made = [], len(memories)
    assert died == [100] * made


@pytest.fixture(scope="session")
def extensions(compilers, tmp_path_factory):
    """The paths of the examples' extension modules, by name."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: build_extension(compilers[0], EXAMPLES / f"{name}.c", folder)
            for name in ("dlpack_export", "arrow_export")}


# -- DLPack

pythonapi = ctypes.pythonapi
pythonapi.PyCapsule_GetName.argtypes = [ctypes.py_object]
pythonapi.PyCapsule_GetName.restype = ctypes.c_char_p
pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
pythonapi.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]

USED = {b"dltensor": b"used_dltensor", b"dltensor_versioned": b"used_dltensor_versioned"}
DELETERS = {b"dltensor": 56, b"dltensor_versioned": 16}     # where the structure has it
VERSIONS = {"plain": False, "versioned": True}


def consume(capsule):
    """As a library imports it: (address of the deleter, of the tensor), which is ours now."""
    name = pythonapi.PyCapsule_GetName(capsule)
    tensor = pythonapi.PyCapsule_GetPointer(capsule, name)
    pythonapi.PyCapsule_SetName(capsule, USED[name])
    return ctypes.c_void_p.from_address(tensor + DELETERS[name]).value, tensor


class Shared:
    def __init__(self, dlpack, memory, versioned):
        self.dlpack, self.memory, self.versioned = dlpack, memory, versioned

    def __dlpack__(self, **options):
        return self.dlpack.capsule(self.memory, self.versioned)

    def __dlpack_device__(self):
        return 1, 0


@pytest.fixture(scope="session")
def dlpack(extensions):
    return load_extension(extensions["dlpack_export"])


@pytest.fixture
def numpy():
    return pytest.importorskip("numpy", reason="numpy is not installed")


@pytest.mark.parametrize("version", VERSIONS)
def test_numpy_shares_memory_and_gives_it_back(numpy, dlpack, make_memory, version):
    memory = make_memory()
    array = numpy.from_dlpack(Shared(dlpack, memory, VERSIONS[version]))
    memory[3] = 77
    assert array.tolist() == list(memory) and array[3] == 77
    view = array[10:20]
    del array
    externref.drain()
    assert memory.shared and externref.stats().live_blocks == 1
    del view
    assert externref.drain() == 1 and not memory.shared


@pytest.mark.parametrize("version", VERSIONS)
def test_array_that_a_native_thread_drops_last(numpy, dlpack, make_memory, version):
    memory = make_memory()
    raw = VMExternRef(numpy.from_dlpack(Shared(dlpack, memory, VERSIONS[version]))).into_raw()
    on_native_threads((abi.drop_address, raw))
    wait_until_drained()
    assert not memory.shared


@pytest.mark.parametrize("version", VERSIONS)
def test_numpys_deleter_calls_ours_on_a_native_thread(numpy, dlpack, make_memory, version):
    memory = make_memory()
    array = numpy.from_dlpack(Shared(dlpack, memory, VERSIONS[version]))
    passed_on = consume(array.__dlpack__(max_version=(1, 0)))
    del array
    assert memory.shared
    on_native_threads(passed_on)
    wait_until_drained()
    assert not memory.shared


@pytest.mark.parametrize("version", VERSIONS)
def test_deleters_on_native_threads(dlpack, make_memory, version):
    memories = [make_memory() for _ in range(25)]
    for _ in range(4):
        tensors = [consume(dlpack.capsule(memory, VERSIONS[version])) for memory in memories for _ in range(2)]
        assert externref.stats().live_blocks == 50 and all(memory.shared for memory in memories)
        for i in range(0, 50, 10):
            on_native_threads(*tensors[i:i + 10])
        wait_until_drained()
        assert not any(memory.shared for memory in memories)


@pytest.mark.parametrize("version", VERSIONS)
def test_deleter_with_the_gil(dlpack, make_memory, version):
    deleter, tensor = consume(dlpack.capsule(make_memory(), VERSIONS[version]))
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(deleter)(tensor)


@pytest.mark.parametrize("version", VERSIONS)
def test_tensor_that_nobody_imports(dlpack, make_memory, version):
    memory = make_memory()
    capsule = dlpack.capsule(memory, VERSIONS[version])
    assert memory.shared
    del capsule
    assert externref.drain() == 1 and not memory.shared


def test_read_only_memory(numpy, dlpack):
    assert not numpy.from_dlpack(Shared(dlpack, b"bytes", True)).flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        dlpack.capsule(b"bytes", False)
    with pytest.raises(TypeError, match="bytes-like"):
        dlpack.capsule("text", True)
    externref.drain()
    assert externref.stats().live_blocks == 0


# -- Arrow

RELEASE = {"array": 64, "schema": 56}   # where the structures have it


class Column:
    def __init__(self, arrow, memory):
        self.arrow, self.memory = arrow, memory

    def __arrow_c_array__(self, requested_schema=None):
        return self.arrow.capsules(self.memory)


@pytest.fixture(scope="session")
def arrow(extensions):
    return load_extension(extensions["arrow_export"])


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def released(address, kind):
    return ctypes.c_void_p.from_address(address + RELEASE[kind]).value is None


def test_pyarrow_shares_memory_and_gives_it_back(pyarrow, arrow, make_memory):
    memory = make_memory()
    array = pyarrow.array(Column(arrow, memory))
    memory[3] = 77
    assert array.type == pyarrow.uint8() and array.to_pylist() == list(memory) and array[3].as_py() == 77
    table = pyarrow.table({"numbers": pyarrow.chunked_array([array.slice(10, 20)])})
    del array
    externref.drain()
    assert memory.shared and externref.stats().live_blocks == 1
    del table
    assert externref.drain() == 1 and not memory.shared


def test_pyarrow_imports_from_addresses(pyarrow, arrow, make_memory):
    memory = make_memory()
    schema, array = arrow.capsules(memory)
    schema_address = pythonapi.PyCapsule_GetPointer(schema, b"arrow_schema")
    array_address = pythonapi.PyCapsule_GetPointer(array, b"arrow_array")
    imported = pyarrow.Array._import_from_c(array_address, schema_address)
    assert released(array_address, "array") and released(schema_address, "schema")     # moved away
    del schema, array
    externref.drain()
    assert memory.shared and imported.to_pylist() == list(memory)
    del imported
    assert externref.drain() == 1 and not memory.shared


def test_pyarrow_releases_on_native_threads(pyarrow, arrow, make_memory):
    """What pyarrow exports has the only reference to the imported array: Arrow's C++ code drops it there."""
    memories = [make_memory() for _ in range(10)]
    for _ in range(5):
        exported = [ctypes.create_string_buffer(80) for _ in memories]
        for memory, structure in zip(memories, exported, strict=True):
            pyarrow.array(Column(arrow, memory))._export_to_c(ctypes.addressof(structure))
        assert externref.stats().live_blocks == 10 and all(memory.shared for memory in memories)
        addresses = list(map(ctypes.addressof, exported))
        on_native_threads(*[(ctypes.c_void_p.from_address(address + RELEASE["array"]).value, address)
                            for address in addresses])
        assert all(released(address, "array") for address in addresses)
        wait_until_drained()
        assert not any(memory.shared for memory in memories)


def test_arrow_array_that_nobody_imports(arrow, make_memory):
    memory = make_memory()
    capsules = arrow.capsules(memory)
    assert memory.shared
    del capsules
    assert externref.drain() == 1 and not memory.shared
    with pytest.raises(TypeError, match="bytes-like"):
        arrow.capsules("text")


# -- Exit

PRELUDE = """
import ctypes, sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
def load(name):
    return module_from_spec(spec_from_loader(name, ExtensionFileLoader(name, sys.argv[1])))
libc, api = ctypes.CDLL(None), ctypes.pythonapi
libc.strdup.restype = api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
def after_python(function, word):
    assert libc.__cxa_atexit(ctypes.c_void_p(function), ctypes.c_void_p(word), None) == 0
def say_after_python(text):     # said after all that is registered later
    after_python(ctypes.cast(libc.puts, ctypes.c_void_p).value, libc.strdup(text))
def on_a_native_thread(function, word):
    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(function), ctypes.c_void_p(word)) == 0
    assert libc.pthread_detach(thread) == 0
"""

DLPACK_PRELUDE = PRELUDE + """
dlpack = load("dlpack_export")
class Shared:
    def __dlpack__(self, **options): return dlpack.capsule(bytearray(1000), True)
    def __dlpack_device__(self): return 1, 0
USED = b"used_dltensor_versioned"
def consume(capsule):
    tensor = api.PyCapsule_GetPointer(capsule, b"dltensor_versioned")
    api.PyCapsule_SetName(capsule, USED)
    return ctypes.c_void_p.from_address(tensor + 16).value, tensor
"""

ARROW_PRELUDE = PRELUDE + """
import pyarrow
arrow = load("arrow_export")
class Column:
    def __arrow_c_array__(self, requested_schema=None): return arrow.capsules(bytearray(1000))
def export():
    structure = libc.calloc(1, 80)
    pyarrow.array(Column())._export_to_c(structure)
    return ctypes.c_void_p.from_address(structure + 64).value, structure
libc.calloc.restype = ctypes.c_void_p
"""

# name: (module, needed, program, what it must print)
CASES = {
    "numpy array in a module": ("dlpack_export", "numpy", "import numpy; array = numpy.from_dlpack(Shared())", ""),
    "capsule in a module": ("dlpack_export", None, "capsule = Shared().__dlpack__()", ""),
    "tensor that nobody deletes": ("dlpack_export", None, "tensor = consume(Shared().__dlpack__())", ""),
    "deleter after Python": ("dlpack_export", None, """
say_after_python(b"deleted")
after_python(*consume(Shared().__dlpack__()))
""", "deleted\n"),
    "deleters during the exit": ("dlpack_export", None, """
for _ in range(50): on_a_native_thread(*consume(Shared().__dlpack__()))
""", ""),
    "pyarrow array in a module": ("arrow_export", "pyarrow", "array = pyarrow.array(Column())", ""),
    "capsules in a module": ("arrow_export", "pyarrow", "capsules = Column().__arrow_c_array__()", ""),
    "array that nobody releases": ("arrow_export", "pyarrow", "exported = export()", ""),
    "pyarrow releases after Python": ("arrow_export", "pyarrow", """
say_after_python(b"released")
after_python(*export())
""", "released\n"),
    "pyarrow releases during the exit": ("arrow_export", "pyarrow", """
for _ in range(50): on_a_native_thread(*export())
""", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_exit(run_python, extensions, case):
    module, needed, program, expected = CASES[case]
    if needed is not None:
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    prelude = DLPACK_PRELUDE if module == "dlpack_export" else ARROW_PRELUDE
    for _ in range(3 if "during" in case else 1):
        assert run_python(prelude + program, extensions[module]) == expected
