"""Memories, bound: what the other runtime's do not have, and what happens to one that moves. Promise P5."""

import threading

import pytest
import wasmtime

import externref.wasmtime as ew

SIZE = 65536
WAT = """(module (import "" "" (func $host)) (memory (export "m") 1 100)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "call") (call $host)))"""


@pytest.fixture
def module(instantiate, store, func_type):
    module = instantiate(WAT, ew.func(store, func_type(), lambda: module.host()))
    return module


def test_it_has_no_buffer(module):
    with pytest.raises(TypeError, match="bytes-like"):
        memoryview(module.m)


def test_it_moves_when_anybody_grows_it(module, store):
    m, theirs = module.m, module.raw["m"]
    m.write(b"first", SIZE - 5)
    assert module.grow(40) == 1 and theirs.grow(store, 9) == 41 and m.grow(1) == 50
    m.write(b"last", len(m) - 4)
    assert len(m) == 51 * SIZE == theirs.data_len(store)
    assert m.read(SIZE - 5, SIZE) == b"first" and theirs.read(store, len(m) - 4, len(m)) == b"last"


def test_arguments_that_grow_it_or_close_the_store(module, store):
    m = module.m

    class Growing:
        def __index__(self):
            m.grow(10)
            return SIZE

    class Closing:
        def __index__(self):
            store.close()
            return 0

    assert m.read(0, Growing()) == bytes(SIZE)
    assert m.write(b"x", Growing()) == 1 and m.read(SIZE, SIZE + 1) == b"x"
    m[Growing()] = 7
    assert m[Growing()] == 7 and len(m[0:Growing()]) == SIZE and len(m) == 51 * SIZE
    for use in (lambda: m.read(Closing()), lambda: m.write(b"x", Closing()), lambda: m[Closing()], lambda: m[Closing():],
                lambda: m.grow(Closing()), lambda: len(m), lambda: m.type, lambda: m.read(), lambda: m.write(b"x")):
        with pytest.raises(ValueError, match="already closed"):
            use()


def test_within_a_host_function(module, store):
    def host():
        module.m.write(b"by the host", 5)
        module.m.grow(30)
        with pytest.raises(RuntimeError, match="cannot be closed"):
            store.close()

    module.host = host
    module.call()
    assert module.load(5) == ord("b") and len(module.m) == 31 * SIZE


def test_another_thread_is_refused(module):
    m, errors = module.m, []

    def other():
        for use in (lambda: len(m), lambda: m.read(0, 1), lambda: m.write(b"x"), lambda: m[0], lambda: m[0:1], lambda: m.grow(1),
                    lambda: m.__setitem__(0, 1), lambda: m.type):
            try:
                use()
            except RuntimeError as error:
                errors.append(str(error))

    def host():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    module.host = host
    module.call()
    assert errors == ["the store is in use by another thread"] * 8


def test_what_cannot_be_bound(module, store):
    with wasmtime.Store() as other:
        for item in (module.raw["m"], module.m):
            with pytest.raises(ValueError, match="another store"):
                ew.bind(other, item)
    assert ew.bind(store, module.m) is module.m
    config = wasmtime.Config()
    config.wasm_threads = True
    config.shared_memory = True
    with wasmtime.Store(wasmtime.Engine(config)) as threaded:
        shared = wasmtime.SharedMemory(threaded.engine, wasmtime.MemoryType(wasmtime.Limits(1, 1), shared=True))
        with pytest.raises(TypeError, match="a shared memory is not bound"):
            ew.bind(threaded, shared)


def test_a_64_bit_memory(store):
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, 2**40), is_64=True))
    m = ew.bind(store, memory)
    assert m.write(b"x", SIZE - 1) == 1 and m[SIZE - 1] == ord("x") and m.grow(1) == 1 and m.type == (2, 2**40, True)
    with pytest.raises(ValueError, match="a memory of 2 pages cannot grow by"):
        m.grow(2**64 - 1)
