"""What does a trip into an @njit function and back cost, beside values that numba knows?

The target: a reference costs no more than twice what an intp does.
"""

from harness import Statement

FUNCTIONS = """
import numpy
import externref.numba
from externref import VMExternRef
from numba import njit

identity = njit(lambda x: x)
ignore = njit(lambda x: 0)
"""


def value(expression):
    return FUNCTIONS + f"x = {expression}\nidentity(x), ignore(x)\n"


VALUES = {
    "VMExternRef": value("VMExternRef(object())"),
    "intp": value("12345678"),
    "float64": value("1.5"),
    "array": value("numpy.zeros(1)"),
    "tuple of an intp": value("(12345678,)"),
}

QUESTIONS = {
    "numba: in and out": [Statement(name, setup, "identity(x)") for name, setup in VALUES.items()],
    "numba: in": [Statement(name, setup, "ignore(x)") for name, setup in VALUES.items()],
}


def test_numba(measure):
    measure()
