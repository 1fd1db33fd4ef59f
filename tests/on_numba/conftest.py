"""Fixtures of the tests of externref.numba: compiled functions, and a reference with one owner."""

import gc

import pytest

import externref
from externref import VMExternRef


class Module(pytest.Module):
    """A file of this folder: skipped, not imported, without the runtime."""

    def collect(self):
        pytest.importorskip("numba", reason="numba is not installed")
        return super().collect()


def pytest_pycollect_makemodule(module_path, parent):
    return Module.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def identity():
    from numba import njit

    import externref.numba  # noqa: F401  makes numba know the type

    @njit
    def identity(value):
        return value

    return identity


@pytest.fixture(scope="session")
def copies():
    from numba import njit, typed

    import externref.numba  # noqa: F401

    @njit
    def copies(ref, count):
        refs = typed.List()
        for _ in range(count):
            refs.append(ref)
        return refs

    return copies


@pytest.fixture
def ref():
    """One owner before the test, and one after it."""
    ref = VMExternRef([])
    yield ref
    gc.collect()
    externref.drain()
    assert ref.strong_count == 1
    ref.drop()      # pytest still has it
