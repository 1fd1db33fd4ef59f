# needs: numba.core
"""Compiled code that groups objects it cannot look into, with numba.

The loop runs without the interpreter: it hashes, compares and copies references, and
collects them in numba's own containers. The objects come back as they went in.

    python examples/numba_groups.py
"""

import gc

import numpy as np
from numba import njit, typed, types

import externref.numba  # noqa: F401    (registers VMExternRef with numba)
from externref import VMExternRef
from externref.numba import vmexternref


@njit
def totals(owners, amounts):
    """The sum of the amounts of each owner."""
    sums = typed.Dict.empty(vmexternref, types.float64)
    for i in range(len(owners)):
        sums[owners[i]] = sums.get(owners[i], 0.0) + amounts[i]
    return sums


@njit
def richest(sums):
    """The owner of the largest sum, and the sum."""
    best, largest = None, -np.inf
    for owner, total in sums.items():
        if total > largest:
            best, largest = owner, total
    return best, largest


class Account:
    def __init__(self, name):
        self.name = name


accounts = [VMExternRef(Account(name)) for name in ("Ada", "Grace", "Edsger")]
owners = typed.List([accounts[i % 3] for i in range(3000)])
amounts = np.arange(3000, dtype=np.float64)

sums = totals(owners, amounts)
for owner, total in sums.items():
    print(f"{owner.value.name + ':':12}{total:.0f}")

best, largest = richest(sums)
print(f"the richest: {best.value.name}, {best == accounts[2]}")

del owners, sums, best, owner
gc.collect()    # numba's compiler leaves cycles that hold the arguments it compiled for
print(f"owners left: {[account.strong_count for account in accounts]}")
