"""What does a trip into an @njit function and back cost, beside values that numba knows?

The target: a reference costs no more than twice what an intp does. What nopython code pays for a look at the payload
is beside numba's own way to Python, an objmode block.
"""

from harness import Loop, Statement

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


def look(payload, how):
    """A loop of nopython code that looks at the payload of one reference."""
    def build():
        from numba import njit, objmode, types

        from externref import VMExternRef
        from externref.numba import is_instance, value_as

        ref, classes = VMExternRef(payload), VMExternRef(int)

        def value_as_int64(ref, n):
            total = 0
            for _ in range(n):
                total += value_as(ref, types.int64)
            return total

        def value_as_str(ref, n):
            total = 0
            for _ in range(n):
                total += len(value_as(ref, types.unicode_type))
            return total

        def instance(ref, n):
            total = 0
            for _ in range(n):
                total += is_instance(ref, classes)
            return total

        def block(ref, n):
            total = 0
            for _ in range(n):
                with objmode(value="int64"):
                    value = ref.value
                total += value
            return total

        compiled = njit({"int64": value_as_int64, "str": value_as_str, "instance": instance, "objmode": block}[how])
        compiled(ref, 1)
        return lambda n: compiled(ref, n)
    return build


QUESTIONS = {
    "numba: in and out": [Statement(name, setup, "identity(x)") for name, setup in VALUES.items()],
    "numba: in": [Statement(name, setup, "ignore(x)") for name, setup in VALUES.items()],
    "numba: a look at the payload": [
        Loop("value_as, int64", look(12345678, "int64")),
        Loop("value_as, str", look("text", "str")),
        Loop("is_instance", look(12345678, "instance")),
        Loop("objmode block, int64", look(12345678, "objmode"), operations=2_000),
    ],
}


def test_numba(measure):
    measure()
