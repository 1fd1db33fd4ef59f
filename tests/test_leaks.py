"""On a debug interpreter, which counts all references there are: what runs again leaves none behind. Promises P1, P2.

The work is the operations that a fuzzer found worth keeping (tests/fuzz), finalizers and failures among them.
"""

import gc
import importlib
import sys
import zipfile

import pytest

from support import NO_GIL, TESTS

sys.path.append(str(TESTS / "fuzz"))
pytestmark = [
    pytest.mark.skipif(not hasattr(sys, "gettotalrefcount"), reason="no debug interpreter"),
    pytest.mark.skipif(NO_GIL, reason="without a GIL threads keep counts to themselves"),
]

ROUNDS = 3      # that must be flat, after as many for what is made once


def test_operations_leave_nothing():
    core = importlib.import_module("core")
    with zipfile.ZipFile(TESTS / "fuzz/corpus/core.zip") as corpus:
        operations = [corpus.read(name) for name in corpus.namelist()]
    figures = []
    for _ in range(2 * ROUNDS):
        for data in operations:
            core.run(data)
        gc.collect()
        figures.append((sys.gettotalrefcount(), sys.getallocatedblocks()))
    references, blocks = zip(*figures[ROUNDS:], strict=True)
    # A list of figures itself takes a few.
    assert max(references) - min(references) < 20 and max(blocks) - min(blocks) < 20, figures
