"""numba's cache of compiled code: in other processes, and what never goes into it."""

import subprocess
import sys


def test_cached_code_in_other_processes(tmp_path, run_python):
    (tmp_path / "cached.py").write_text("""
from numba import njit, types
import externref.numba as ern

@njit(cache=True)
def churn(ref):
    ern.drop(ern.clone(ref))
    return ref, hash(ref), ern.strong_count(ref)

@njit(cache=True)
def look(ref, classes):
    return ern.is_instance(ref, classes), ern.value_as(ref, types.unicode_type), ern.value_as(ref, types.int64)
""")
    program = """
import gc, sys
sys.path.insert(0, sys.argv[1])
import externref, cached
ref = externref.VMExternRef("payload")
result, hashed, count = cached.churn(ref)
assert (result, result.value, hashed, count) == (ref, "payload", hash(ref), 2)
del result
assert ref.strong_count == 1
try:
    cached.look(ref, externref.VMExternRef(str))
except TypeError as error:
    assert str(error) == "value_as: expected an int, not str", error
assert ref.strong_count == 1
print(sum(cached.churn.stats.cache_hits.values()) + sum(cached.look.stats.cache_hits.values()))
"""
    hits = [run_python(program, tmp_path) for _ in range(3)]    # each at other addresses
    assert hits == ["0\n", "2\n", "2\n"]


def test_cached_code_of_another_abi(tmp_path, run_python):
    """It has other offsets in it, and is not used."""
    (tmp_path / "cached.py").write_text("""
from numba import njit
import externref.numba as ern

@njit(cache=True)
def count(ref):
    return ern.strong_count(ref)
""")
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from externref import VMExternRef, abi
abi.ABI_VERSION += int(sys.argv[2])
import cached
assert cached.count(VMExternRef(1)) == 2
print(sum(cached.count.stats.cache_hits.values()))
"""
    assert [run_python(program, tmp_path, str(more)) for more in (0, 0, 7, 7, 0)] == ["0\n", "1\n", "0\n", "1\n", "1\n"]


def test_function_with_a_constant_reference_is_not_cached(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
from numba import njit
import externref, externref.numba
ref = externref.VMExternRef("payload")
@njit(cache=True)
def get():
    return ref
print(get().value)
""")
    result = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "payload\n"), result
    assert 'Cannot cache compiled function "get"' in result.stderr
