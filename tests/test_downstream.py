"""A Cython package built against the installed externref, with everything that `from externref cimport` has."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

import externref
from externref import MovedError, VMExternRef, abi
from support import TESTS

SOURCES = {".h", ".hpp", ".pxd", ".pxi", ".py", ".pyi", ".pyx"}


@pytest.fixture(scope="module")
def downstream(tmp_path_factory, compilers):
    for name in ("pip", "setuptools", "Cython"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    # From a copy, in a folder from which the sources of externref cannot be found.
    folder = tmp_path_factory.mktemp("downstream")
    source = shutil.copytree(TESTS / "downstream", folder / "source")
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", folder / "site", source],
        capture_output=True, text=True, cwd=folder,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    module_path, = (folder / "site").glob("downstream.*.*")
    spec = importlib.util.spec_from_file_location("downstream", module_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_slot_owns_a_reference(downstream, make_payload):
    dropped = []
    slot, ref = downstream.Slot(), VMExternRef(make_payload(dropped, "payload"))
    slot.put(ref)
    assert (ref.strong_count, slot.value) == (2, ref.value)
    clone = slot.get()
    assert type(clone) is VMExternRef and clone == ref and ref.strong_count == 3
    del ref, clone
    assert dropped == [] and slot.value.name == "payload"
    slot.put(None)
    externref.drain()
    assert dropped == ["payload"]
    assert slot.value is slot.get() is None


def test_slot_drops_its_reference_when_it_dies(downstream, make_payload):
    dropped = []
    slot = downstream.Slot()
    slot.put(VMExternRef(make_payload(dropped, "payload")))
    slot.put(slot.get())        # what is there in place of what is there
    assert slot.value.name == "payload"
    del slot
    externref.drain()
    assert dropped == ["payload"]


def test_one_word_compared(downstream):
    ref = VMExternRef(1)
    assert downstream.same(ref, ref.clone())
    assert not downstream.same(ref, VMExternRef(1))


def test_threads_without_the_gil(downstream):
    slot, ref = downstream.Slot(), VMExternRef(1)
    slot.put(ref)
    threads = [threading.Thread(target=slot.clone_and_drop, args=(100_000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    clones = [ref.clone() for _ in range(1000)]     # meanwhile
    for thread in threads:
        thread.join()
    assert ref.strong_count == slot.clone_and_drop(1) == 2 + len(clones)


def test_types_are_checked(downstream):
    with pytest.raises(TypeError, match="VMExternRef"):
        downstream.Slot().put("no reference")
    with pytest.raises(TypeError, match="VMExternRef"):
        downstream.same(VMExternRef(1), None)
    spent = VMExternRef(1)
    spent.drop()
    with pytest.raises(ValueError, match="moved out"):
        downstream.Slot().put(spent)


def test_every_name_of_the_headers_can_be_cimported():
    package = Path(externref.__file__).parent
    headers = "\n".join((package / "include" / name).read_text() for name in ("externref.h", "externref_api.h"))
    functions = set(re.findall(r"\b(externref_\w+)\(", headers)) - set(re.findall(r"\b(externref_check_\w+)", headers))
    macros = set(re.findall(r"^# *define (EXTERNREF_\w+)", headers, re.MULTILINE))
    # Guards, the atomics of the functions, the host word's bits: nobody's but the headers' and the package's.
    macros -= {"EXTERNREF_H", "EXTERNREF_API_H", "EXTERNREF_API_UNUSED", "EXTERNREF_CHECK",
               "EXTERNREF_INCREMENT", "EXTERNREF_DECREMENT", "EXTERNREF_ACQUIRE"}
    macros = {name for name in macros if not name.startswith("EXTERNREF_STATE_")}
    assert len(functions) == 18 and len(macros) == 7
    declared = set(re.findall(r"\w+", (package / "__init__.pxd").read_text()))
    cimported = set(re.findall(r"\w+", (TESTS / "downstream/downstream.pyx").read_text()))
    for names in declared, cimported:
        assert functions | macros | {"VMExternRef", "VMExternData", "VMExternVTable"} <= names


def test_numbers_are_those_of_python(downstream):
    numbers, api_version, footer_offset = downstream.numbers()
    assert numbers == {name: getattr(abi, name) for name in numbers} and len(numbers) == 6
    assert (api_version, footer_offset) == (1, abi.layout_for(16, 8).footer_offset)


def test_objects_boxed_and_taken_out(downstream, make_payload):
    dropped, slot = [], downstream.Slot()
    payload = make_payload(dropped, "first")
    slot.put_object(payload)
    assert (slot.value is payload, slot.lent()[0] % 8, externref.stats()) == (True, 0, (1, 0, 0, 0))
    assert slot.take() is payload and slot.value is None and externref.stats() == (0, 0, 0, 0)
    slot.put_object(payload)
    del payload
    slot.put_object("second")       # releases the first, at once
    assert dropped == ["first"]
    ref = slot.move_out()
    assert (ref.value, ref.strong_count, slot.value) == ("second", 1, None)


def test_lent_pointer(downstream):
    ref = VMExternRef("payload")
    assert downstream.lend(ref) == ref.as_raw()
    assert downstream.lend(None) == 0
    with pytest.raises(TypeError, match="expected a VMExternRef or None, not str"):
        downstream.lend("payload")
    ref.drop()
    with pytest.raises(MovedError):
        downstream.lend(ref)


def test_payload_of_the_packages_own(downstream):
    before = downstream.count_dropped_points()
    ref = downstream.new_point((3, 4))
    assert "to 'Point'" in repr(ref) and downstream.squared_length(ref.clone()) == 25
    with pytest.raises(TypeError, match="expected a reference to a Point"):
        downstream.squared_length(VMExternRef((3, 4)))
    assert downstream.count_dropped_points() == before
    del ref
    assert downstream.count_dropped_points() == before + 1


def test_payload_that_is_dropped_without_the_gil(downstream):
    before = downstream.make_and_drop_numbers(0)
    assert downstream.make_and_drop_numbers(1000) == before + 499_500
    assert VMExternRef.from_raw(downstream.hand_out_number(7)).strong_count == 1
    assert downstream.make_and_drop_numbers(0) == before + 499_507
    assert externref.stats() == (0, 0, 0, 0)


@pytest.mark.parametrize("coordinates, error", [((1, "two"), TypeError), ((1,), ValueError), (None, TypeError)])
def test_payload_whose_init_raises(downstream, coordinates, error):
    before = downstream.count_dropped_points()
    with pytest.raises(error):
        downstream.new_point(coordinates)
    assert externref.stats() == (0, 0, 0, 0) and downstream.count_dropped_points() == before


def test_type_of_payload_that_is_refused(downstream):
    with pytest.raises(ValueError, match="power of two, not 3"):
        downstream.new_point_type(3)


@pytest.mark.parametrize("name", ["first_byte", "first_number", "first_object", "first_of_strided"])
def test_a_reference_is_no_memoryview(downstream, name):
    """externref.numba makes it answer one request for a buffer, that of numba's and of typed memoryviews."""
    first = getattr(downstream, name)
    with pytest.raises((TypeError, ValueError), match="bytes-like|buffer dtype"):
        first(VMExternRef(1))
    pytest.importorskip("numba", reason="numba is not installed")
    code = f"""
import importlib.util, sys
import externref.numba
spec = importlib.util.spec_from_file_location("downstream", {downstream.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
try:
    module.{name}(externref.VMExternRef(1))
except (TypeError, ValueError) as error:
    print("refused:", error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.startswith("refused: ")


@pytest.mark.parametrize("missing, said", [
    ("compiler", "the C compiler 'no-such-compiler' is not there: install one"), ("Python.h", "this Python has no Python.h"),
])
def test_a_build_says_what_is_missing(tmp_path, missing, said):
    setup = TESTS.parent / "setup.py"
    if not setup.is_file():
        pytest.skip("needs a checkout")
    (tmp_path / "src/externref").mkdir(parents=True)
    (tmp_path / "src/externref/empty.pyx").touch()
    program = f"import runpy, sys, sysconfig; sys.argv[:] = ['setup.py', '-q', 'build_ext']; path = {str(setup)!r}\n"
    if missing == "Python.h":
        program += "sysconfig.get_path = lambda name: '/nowhere'\n"
    env = os.environ | ({"CC": "no-such-compiler"} if missing == "compiler" else {})
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", program + "runpy.run_path(path, run_name='__main__')"],
                            capture_output=True, text=True, cwd=tmp_path, env=env)
    assert result.returncode != 0 and said in result.stderr, result


def test_the_sdist_has_every_source(tmp_path):
    """Of modules that setuptools only knows by their C it has no .pyx, and of those nothing that they include."""
    if not (TESTS.parent / "setup.py").is_file():
        pytest.skip("needs a checkout")
    tree = shutil.copytree(TESTS.parent, tmp_path / "tree", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    subprocess.run([sys.executable, "-W", "ignore", "setup.py", "-q", "sdist", "-d", tmp_path], cwd=tree, check=True,
                   capture_output=True)
    archive, = tmp_path.glob("externref-*.tar.gz")
    with tarfile.open(archive) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    sources = {str(path.relative_to(tree)) for path in (tree / "src").rglob("*") if path.suffix in SOURCES}
    assert sources > {"src/externref/_core.pyx", "src/externref/_core/block.pxi"} and sources <= held, sources - held
