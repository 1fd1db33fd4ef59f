"""How long after a native thread's last drop is the payload released?

No other thread of Python's exists. The main thread computes in Python, or waits in C for a second. What is
timed begins before the native thread is made, in a process whose helper sleeps.
"""

import ctypes
import time

from harness import Program


class Clock:
    """A payload that notes when it is released."""

    def __init__(self, ends):
        self.ends = ends

    def __del__(self):
        self.ends.append(time.perf_counter())


def milliseconds(setting, main):
    import externref
    from externref import VMExternRef, abi
    libc = ctypes.CDLL(None)
    start_thread = libc.pthread_create
    start_thread.argtypes = [ctypes.c_void_p] * 4
    externref.set_drain(setting)
    for _ in range(2):      # the first starts the helper
        ends, thread = [], ctypes.c_size_t()
        raw = VMExternRef(Clock(ends)).into_raw()
        start = time.perf_counter()
        assert start_thread(ctypes.byref(thread), None, abi.drop_address, raw) == 0
        if main == "in C":
            time.sleep(1)
        while not ends:
            pass
        libc.pthread_join(thread, None)
        time.sleep(1.2)     # the helper sleeps after a second
    return (ends[0] - start) * 1e3


QUESTIONS = {
    f"release: main thread {main}": [
        Program(f"VMExternRef, {setting}", "ms", milliseconds, (setting, main)) for setting in ("auto", "main")
    ]
    for main in ("computing", "in C")
}
LONG = list(QUESTIONS)      # seconds for each sample


def test_release(show):
    show()
