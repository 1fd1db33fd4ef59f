"""Random operations against the model: the core alone, and beside a native thread. Promises P1, P2, P3, P5."""

from model import Machine, MachineWithThread, run


def test_the_core():
    run(Machine)


def test_a_native_thread(foreign):
    run(MachineWithThread, foreign)
