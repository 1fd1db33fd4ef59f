"""Memory that runs out on the way into nopython code is a MemoryError, and as if nothing had been done. Promises P1, P2."""

from support import run_under_faults, with_faults

pytestmark = with_faults


def test_under_faults(compilers, tmp_path):
    run_under_faults(compilers[0], tmp_path, "on_numba/under_faults.py")
