"""Where there is no address space for more, that is a MemoryError, and nothing is lost. Promises P1, P2."""

import sys

import pytest

from support import ADDRESS_SPACE, NO_GIL, with_address_space

pytestmark = with_address_space


@pytest.mark.parametrize("make", ["VMExternRef(value)", "ref.clone()", "VMExternRef(value).into_raw()",
                                  "table.insert_without_gc(VMExternRef(value))"])
def test_as_many_references_as_fit(run_python, make):
    run_python(ADDRESS_SPACE + f"""
import externref
from externref import VMExternRef, VMExternRefActivationsTable
value = object()
ref = VMExternRef(value)
table = VMExternRefActivationsTable()
made = [None] * 3_000_000       # before: only references are to fail
before = sys.getrefcount(value), externref.stats()
def fill():
    global count
    for count in range(len(made)):
        made[count] = {make}
for _ in range(2):
    leave(24 << 20)
    assert fails(fill) and count > 10_000, count
    stats = externref.stats()
    blocks = stats.live_blocks - before[1].live_blocks
    assert blocks == (count if "(value)" in {make!r} else 0), (stats, count)
    assert sys.getrefcount(value) - before[0] == count      # each block's, and each wrapper's
    leave_all()
    made[count] = {make}    # the next one works
    if "into_raw" in {make!r}:
        for raw in made:
            raw is not None and VMExternRef.from_raw(raw)
    made = [None] * len(made)
    table.gc()
    externref.drain()
    assert (sys.getrefcount(value), externref.stats()) == before, externref.stats()
""")


@pytest.mark.xfail(sys.version_info >= (3, 12), reason="CPython crashes where it has no memory for the frames of Python code",
                   strict=False)
@pytest.mark.skipif(NO_GIL, reason="its allocator takes address space by the gigabyte")
def test_an_import_in_any_amount(run_python):
    """It works, or raises; each time in a child of its own."""
    out = run_python(ADDRESS_SPACE + """
import ctypes, typing     # Python's own
outcomes = []
for step in range(200):
    child = os.fork()
    if child == 0:
        try:
            leave(step * 256 << 10)
            import externref
            assert externref.VMExternRef(step).value == step
        except (MemoryError, ImportError):
            os._exit(1)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(2)
        os._exit(0)
    outcomes.append(os.waitpid(child, 0)[1])
    if outcomes[-3:] == [0, 0, 0]: break
print(sorted(set(outcomes)), outcomes[-1], outcomes[0])
""")
    assert out == "[0, 256] 0 256\n"
