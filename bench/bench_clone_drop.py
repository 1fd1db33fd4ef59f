"""What does it cost to clone a reference and drop the clone?

No rival can be cloned: their second owner is made as the first one is.
"""

from bench_make_drop import RIVALS
from harness import Statement
from rivals import EXTERNREF, EXTERNREF_LENT, EXTERNREF_TRACKED

QUESTIONS = {
    "clone+drop": [
        Statement("VMExternRef", EXTERNREF, "ref.clone()"),
        Statement("VMExternRef, tracked value", EXTERNREF_TRACKED, "ref.clone()"),
        Statement("VMExternRef, lent", EXTERNREF_LENT, "ref.clone()"),
        *RIVALS,
    ],
}


def test_clone_drop(measure):
    measure()
