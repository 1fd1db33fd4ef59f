"""A Cython package built against the installed externref, with `from externref cimport VMExternRef`."""

import importlib.util
import shutil
import subprocess
import sys
import threading

import pytest

import externref
from externref import VMExternRef
from support import TESTS


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
