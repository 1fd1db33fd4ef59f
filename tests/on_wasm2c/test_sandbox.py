"""A hostile module and ordinary Python together reach nothing of the host's. Promise P10."""

import ctypes
import gc
import mmap
import os

import pytest

from externref import wasm2c

# --- Memory and tables that cannot be had

HOST = '(module (table (export "t") 4 funcref))'

# Puts functions of its own in the host's table before or after its memory cannot be had.
HOSTILE = """(module
  (import "host" "t" (table 4 funcref))
  {memory}
  (table $own 2 externref)
  (elem (i32.const 0) $load $store $size $grow)
  (func $load (param {address}) (result i32) (i32.load (local.get 0)))
  (func $store (param {address}) (i32.store (local.get 0) (i32.const 1)))
  (func $size (result {address}) (memory.size))
  (func $grow (result {address}) (memory.grow ({address}.const 1)))
)"""


@pytest.mark.parametrize(("memory", "address"), [
    ("(memory i64 0x100000000)", "i64"), ("(memory i64 0x1000000000000)", "i64"), ("(memory 65536)", "i32"),
])
def test_functions_of_an_instance_whose_memory_could_not_be_had_trap(compile, store, little_memory, memory, address):
    table = compile(HOST).instantiate(store).exports.t
    module = compile(HOSTILE.format(memory=memory, address=address))
    for _ in range(3):
        with pytest.raises(MemoryError, match="no memory for a WebAssembly table or memory"):
            module.instantiate(store, {"host": {"t": table}})
        gc.collect()        # what is half made, and released, must not unmap what is others'
        store.gc()
        if table[0] is not None:
            load, put, size, grow = table
            assert size() == 0
            for at in (0, 8, 2**31 - 1):
                with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
                    load(at)
                with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
                    put(at)
            assert grow() == -1 and size() == 0


LOW, SIZE = 2**31, 4096     # below 4 GiB, where a usual memory that has no address would end


@pytest.mark.skipif(not hasattr(mmap, "MAP_ANONYMOUS"), reason="no mmap")
def test_a_memory_that_could_not_be_had_unmaps_nothing(compile, little_memory):
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    # A hint alone: where something is already, this is elsewhere.
    here = libc.mmap(ctypes.c_void_p(LOW), ctypes.c_size_t(SIZE), mmap.PROT_READ | mmap.PROT_WRITE,
                     mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0))
    try:
        if here != LOW:
            pytest.skip("something is there, or nothing can be")
        module = compile("(module (memory 65536))")
        for _ in range(3):
            with wasm2c.Store() as store, pytest.raises(MemoryError, match="no memory for a WebAssembly table or memory"):
                module.instantiate(store)
        gc.collect()
        present = ctypes.create_string_buffer(1)
        assert libc.mincore(ctypes.c_void_p(here), ctypes.c_size_t(SIZE), present) == 0     # else it is not mapped
    finally:
        libc.munmap(ctypes.c_void_p(here), ctypes.c_size_t(SIZE))


@pytest.mark.parametrize("imported", ["", '(import "host" "t" (table 4 funcref))'], ids=["goes", "stays"])
def test_tables_that_cannot_be_had_are_empty_for_the_collector(compile, little_memory, imported):
    # The instance stays in the store if it imports a table, where functions of its own may be.
    module = compile(f"(module {imported} (table 4294967295 externref) (table 4294967295 externref) (table 4294967295 funcref))")
    with wasm2c.Store(table_limit=None) as store:
        table = compile(HOST).instantiate(store).exports.t
        for _ in range(3):
            with pytest.raises(MemoryError, match="no memory for a WebAssembly table or memory"):
                module.instantiate(store, {"host": {"t": table}})
            store.gc()


# --- Indices of 64 bits

LANE = "(v128.const i32x4 0 0 0 0)"
INSTRUCTIONS = [
    *(f"(drop ({name}{offset} (local.get 0)))" for offset in ("", " offset=16") for name in [
        "i32.load", "i64.load", "f32.load", "f64.load", "v128.load", "i32.load8_s", "i32.load8_u", "i32.load16_s", "i32.load16_u",
        "i64.load8_s", "i64.load8_u", "i64.load16_s", "i64.load16_u", "i64.load32_s", "i64.load32_u",
        *(f"v128.load{shape}_{sign}" for shape in ("8x8", "16x4", "32x2") for sign in "su"),
        *(f"v128.load{bits}_splat" for bits in (8, 16, 32, 64)), "v128.load32_zero", "v128.load64_zero"]),
    *(f"({name}{offset} (local.get 0) ({name[:3]}.const 0))" for offset in ("", " offset=16") for name in [
        "i32.store", "i64.store", "f32.store", "f64.store", "i32.store8", "i32.store16", "i64.store8", "i64.store16", "i64.store32"]),
    f"(v128.store (local.get 0) {LANE})",
    *(f"(drop (v128.load{bits}_lane 0 (local.get 0) {LANE}))" for bits in (8, 16, 32, 64)),
    *(f"(v128.store{bits}_lane 0 (local.get 0) {LANE})" for bits in (8, 16, 32, 64)),
    "(memory.fill (local.get 0) (i32.const 0) (i64.const 1))", "(memory.fill (i64.const 0) (i32.const 0) (local.get 0))",
    "(memory.copy (local.get 0) (i64.const 0) (i64.const 1))", "(memory.copy (i64.const 0) (local.get 0) (i64.const 1))",
    "(memory.copy (i64.const 0) (i64.const 0) (local.get 0))", "(memory.init $data (local.get 0) (i32.const 0) (i32.const 1))",
]


def test_indices_of_64_bits_are_checked_whole(run):
    """The low halves of these are in bounds, and wabt's interpreter looked at those alone (PR 2760). Tables have none."""
    functions = "".join(f'(func (export "{i}") (param i64) {code})' for i, code in enumerate(INSTRUCTIONS))
    exports = run(f'(module (memory i64 1) (data $data "x") {functions})')
    for i, code in enumerate(INSTRUCTIONS):
        exports[str(i)](8)
        for index in (2**32, 2**32 + 8, 2**63 + 8, -8):
            with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
                exports[str(i)](index)
                pytest.fail(f"{code} at {index}")


# --- Limits of a store

def test_memory_limit(compile):
    module = compile('(module (memory (export "m") 2 10) (func (export "grow") (param i32) (result i32) '
                     "(memory.grow (local.get 0))))")
    with wasm2c.Store(memory_limit=5 * 65536) as store:
        one = module.instantiate(store).exports
        two = module.instantiate(store).exports
        with pytest.raises(MemoryError, match="memory_limit"):
            module.instantiate(store)
        assert one.grow(2) == -1 and one.grow(1) == 2 and two.grow(1) == -1 and two.grow(0) == 2
        with pytest.raises(ValueError, match="cannot grow"):
            two.m.grow(1)
        del one
        gc.collect()
        assert two.m.grow(1) == 2 and two.grow(2) == 3 and two.grow(1) == -1
        # What Python does for one store while another one's code runs is the former's.
        with wasm2c.Store(memory_limit=65536) as other:
            calls = compile('(module (import "e" "f" (func $f)) (func (export "f") (call $f)))').instantiate(
                other, {"e": {"f": lambda: results.append(three.m.grow(1))}}).exports
            results = []
            with wasm2c.Store() as unlimited:
                three = module.instantiate(unlimited).exports
                calls.f()
            assert results == [2]


@pytest.mark.parametrize("element", ["externref", "funcref"])
def test_table_limit(compile, element):
    null = "extern" if element == "externref" else "func"
    module = compile(f'(module (table $t (export "t") 20 {element}) (func (export "grow") (param i32) (result i32) '
                     f"(table.grow $t (ref.null {null}) (local.get 0))))")
    with wasm2c.Store(table_limit=50) as store:
        one = module.instantiate(store).exports
        two = module.instantiate(store).exports
        with pytest.raises(MemoryError, match="table_limit"):
            module.instantiate(store)
        assert one.grow(11) == -1 and one.grow(10) == 20 and two.grow(1) == -1
        with pytest.raises(ValueError, match="cannot grow"):
            two.t.grow(1)
        assert (len(one.t), len(two.t)) == (30, 20)


def test_a_table_of_ten_million_is_what_a_store_has_unless_told_otherwise(compile):
    big = compile("(module (table 10000001 externref))")
    with wasm2c.Store() as store, pytest.raises(MemoryError, match="table_limit"):
        big.instantiate(store)
    with wasm2c.Store(table_limit=None) as store:
        big.instantiate(store)


@pytest.mark.parametrize("limit", ["memory_limit", "table_limit", "timeout"])
@pytest.mark.parametrize("value", [-1, "x", float("nan"), float("inf"), [], 1j])
def test_limits_are_numbers(limit, value):
    with pytest.raises(ValueError, match=limit):
        wasm2c.Store(**{limit: value})


# --- What links

ITEMS = """(module
  (memory (export "m") 1) (memory $n (export "m max") 1 2) (memory $w (export "wide") i64 1 2)
  (table (export "t") 1 externref) (table $u (export "t max") 1 2 externref))"""


@pytest.mark.parametrize(("declared", "name", "links"), [
    ("(memory 1)", "m", True), ("(memory 1)", "m max", True), ("(memory 1 2)", "m max", True),
    ("(memory 1 65536)", "m", False), ("(memory 1 1)", "m max", False), ("(memory 1 2)", "m", False),
    ("(memory 1)", "wide", False), ("(memory 1 2)", "wide", False), ("(memory i64 1)", "wide", True),
    ("(memory i64 1)", "m", False), ("(memory i64 1 2)", "m max", False), ("(memory i64 1 2)", "wide", True),
    ("(table 1 externref)", "t", True), ("(table 1 4294967295 externref)", "t", False),
    ("(table 1 2 externref)", "t max", True), ("(table 1 1 externref)", "t max", False),
])
def test_memories_and_tables_link_if_they_are_what_is_declared(compile, store, declared, name, links):
    items = compile(ITEMS).instantiate(store)
    module = compile(f'(module (import "e" "{name}" {declared}))')
    if links:
        module.instantiate(store, {"e": items})
    else:
        with pytest.raises(wasm2c.LinkError):
            module.instantiate(store, {"e": items})


def test_what_is_exported_again_keeps_its_own_type(compile, store):
    # Declared without a maximum on its way, it still has one.
    items = compile(ITEMS).instantiate(store).exports
    again = compile('(module (import "e" "m max" (memory 1)) (import "e" "t max" (table 1 externref))'
                    ' (export "m" (memory 0)) (export "t" (table 0)))').instantiate(store, {"e": items}).exports
    assert again.m is items["m max"] and again.t is items["t max"]
    compile('(module (import "e" "m" (memory 1 2)) (import "e" "t" (table 1 2 externref)))').instantiate(store, {"e": again})


# --- Tail calls

def test_direct_tail_calls_run_in_their_instance(run):
    # wasm2c 1.0.42 takes the instance from a variable that nobody set.
    exports = run("""(module (memory 1) (data (i32.const 0) "\\01\\00\\00\\00") (global $g (mut i32) (i32.const 7))
      (func $f (export "f") (param i32) (result i32)
        (if (result i32) (local.get 0) (then (return_call $g (i32.sub (local.get 0) (i32.const 1)))) (else (global.get $g))))
      (func $g (export "g") (param i32) (result i32)
        (global.set $g (i32.add (i32.load (i32.const 0)) (i32.add (global.get $g) (local.get 0)))) (return_call $f (local.get 0))))""")
    assert [exports.f(5), exports.g(3), exports.f(1000)] == [7 + 4 + 3 + 2 + 1 + 5, 22 + 6 + 4, 32 + 999 * 500 + 1000]


TAIL = """(module
  (type $three (func (param i32) (result i32 f64 externref))) (type $ref (func (param i32) (result externref)))
  (type $none (func (param i32)))
  (import "e" "host" (func $host (type $ref)))
  (table $t 6 funcref) (elem (i32.const 0) $plain $tail $one $one_tail $host $nothing)
  (memory 1) (data (i32.const 4) "\\05\\00\\00\\00") (global $seen (export "seen") (mut i32) (i32.const 0))
  (func $plain (type $three) (i32.load (local.get 0)) (f64.const 1.5) (ref.null extern))
  ;; With values below the arguments of the tail call.
  (func $tail (export "indirect") (type $three) (i32.const 9) (f64.const 7)
    (block (result i32) (i32.const 8) (i32.const 7) (return_call_indirect $t (type $three) (local.get 0) (i32.const 0))) (unreachable))
  (func $direct (export "direct") (type $three) (i32.const 77) (return_call $tail (local.get 0)))
  (func (export "twice") (type $three) (f64.const 3) (return_call $direct (local.get 0)))
  (func (export "through table") (type $three) (i64.const 3)
    (return_call_indirect $t (type $three) (local.get 0) (i32.const 1)))
  (func $one (type $ref) (i64.const 1) (return_call $host (local.get 0)))
  (func $one_tail (export "ref") (type $ref) (i32.const 4) (return_call_indirect $t (type $ref) (local.get 0) (i32.const 2)))
  (func (export "ref twice") (type $ref) (i64.const 4) (return_call $one_tail (local.get 0)))
  (func (export "ref of host") (type $ref) (i64.const 4) (return_call_indirect $t (type $ref) (local.get 0) (i32.const 4)))
  (func $nothing (type $none) (global.set $seen (local.get 0)))
  (func $no (export "nothing") (type $none) (i32.const 5) (return_call_indirect $t (type $none) (local.get 0) (i32.const 5)))
  (func (export "nothing twice") (type $none) (i32.const 5) (return_call $no (local.get 0)))
  (func $wrong (export "wrong type") (type $none) (return_call_indirect $t (type $none) (local.get 0) (i32.const 0)))
  (func (export "wrong type twice") (type $none) (return_call $wrong (local.get 0)))
  (func $endless (export "endless") (param i32) (result i32)
    (if (result i32) (local.get 0) (then (i32.const 5) (return_call $endless (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 42))))
)"""


def test_tail_calls_with_values_below_their_arguments(run):
    # wasm2c 1.0.42 gives what is in other variables, or in none.
    thing = object()
    exports = run(TAIL, {"e": {"host": lambda n: [thing, n] if n < 10 else thing}})
    for name in ("indirect", "direct", "twice", "through table"):
        assert exports[name](4) == (5, 1.5, None), name
    for name in ("ref", "ref twice", "ref of host"):
        assert exports[name](5) == [thing, 5] and exports[name](11) is thing, name
    for name in ("nothing", "nothing twice"):
        exports[name](len(name))
        assert exports.seen.value == len(name)
    for name in ("wrong type", "wrong type twice"):
        with pytest.raises(wasm2c.Trap, match="Invalid call_indirect"):
            exports[name](1)
    assert exports.endless(1_000_000) == 42


@pytest.mark.parametrize("shape", ["host function", "another instance", "table", "table of another instance"])
def test_tail_calls_to_others(compile, store, shape):
    other = compile("""(module (table (export "t") 2 funcref) (elem (i32.const 0) $f $f) (memory 1)
      (data (i32.const 4) "\\05\\00\\00\\00")
      (func $f (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.load (i32.const 4)))))""").instantiate(store)
    call = {"host function": "(return_call $i (local.get 0))", "another instance": "(return_call $i (local.get 0))",
            "table": "(return_call_indirect $own (type $t) (local.get 0) (i32.const 0))",
            "table of another instance": "(return_call_indirect $theirs (type $t) (local.get 0) (i32.const 0))"}[shape]
    module = compile(f"""(module (type $t (func (param i32) (result i32))) (import "e" "f" (func $i (type $t)))
      (import "o" "t" (table $theirs 2 funcref)) (table $own 1 funcref) (elem (table $own) (i32.const 0) func $own)
      (memory 1) (data (i32.const 4) "\\05\\00\\00\\00")
      (func $own (type $t) (i32.add (local.get 0) (i32.load (i32.const 4))))
      (func (export "f") (type $t) {call})
      (func (export "g") (type $t) (return_call $h (local.get 0)))
      (func $h (type $t) {call}))""")
    function = (lambda n: n + 5) if shape == "host function" else other.exports.f
    exports = module.instantiate(store, {"e": {"f": function}, "o": other}).exports
    assert (exports.f(10), exports.g(20)) == (15, 25)


# --- The stack

@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer makes frames of its own")
@pytest.mark.parametrize("size", [256 * 1024, 512 * 1024, 2**20, 2**23])
def test_large_frames_at_the_end_of_a_stack_trap(run_in_threads, run, size):
    # 3,000 v128 that are all live: a frame of 48 KiB.
    count = 3000
    body = "".join(f"(local.set {i} (i32x4.splat (i32.add (local.get 0) (i32.const {i}))))" for i in range(1, count))
    total = "".join(f"(local.set $s (i32.add (local.get $s) (i32x4.extract_lane 0 (local.get {i}))))" for i in range(1, count))
    exports = run(f"""(module (func $f (export "f") (param i32) (result i32) (local {'v128 ' * (count - 1)}) (local $s i32)
      {body} (local.set $s (call $f (i32.add (local.get 0) (i32.const 1)))) {total} (local.get $s)))""")

    def attempt():
        with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
            exports.f(1)

    run_in_threads(attempt, 1, size)


# --- Greenlets

def greenlets():
    if "ASAN_OPTIONS" in os.environ:
        pytest.skip("AddressSanitizer does not know stacks that are moved")
    return pytest.importorskip("greenlet")


def test_a_greenlet_switched_away_from_keeps_the_store(references, store):
    greenlet = greenlets()
    main = greenlet.getcurrent()

    def call(ref, number):
        main.switch("away")
        return ref

    exports = references(call)
    kept, other = object(), object()
    first = greenlet.greenlet(lambda: exports.hold(kept, kept, 1))
    assert first.switch() == "away"

    def use():
        for act in (store.gc, lambda: exports.id(other), lambda: exports.t[0], store.close):
            with pytest.raises(RuntimeError, match="in use by another greenlet|in use: it cannot be closed"):
                act()

    def use_deep(depth):
        return use() if depth == 0 else list(map(use_deep, [depth - 1]))

    use()
    greenlet.greenlet(use).switch()
    use_deep(30)        # below where the other one's frames were
    assert first.switch() == (kept, kept)
    assert exports.id(other) is other
    store.gc()


def test_greenlets_with_a_store_each(compile, references):
    greenlet = greenlets()
    module = compile("""(module (import "e" "f" (func $f (param i32)))
      (func (export "f") (param i32) (call $f (local.get 0)) (if (i32.eq (local.get 0) (i32.const 3)) (then unreachable))))""")
    main = greenlet.getcurrent()
    ended = []

    def work(n):
        with wasm2c.Store() as store:
            exports = module.instantiate(store, {"e": {"f": lambda i: main.switch(i)}}).exports
            for i in range(6):
                try:
                    exports.f(i)
                except wasm2c.Trap:
                    ended.append((n, i))

    running = [greenlet.greenlet(work) for _ in range(5)]
    for n, one in enumerate(running):
        one.switch(n)
    while running:
        for one in running[:]:
            one.switch()
            if one.dead:
                running.remove(one)
    assert sorted(ended) == [(n, 3) for n in range(5)]
