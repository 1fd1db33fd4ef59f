"""What it costs, and gains, to compile a WebAssembly module in several pieces.

    python bench/pieces.py          calls between pieces
    python bench/pieces.py 10000    compiling so many small functions: in one piece, in as many as compile() would
"""

import random
import sys
import time

from externref import wasm2c
from externref.wasm2c import compiler

RECURSIVE = """(func ${name} {export} (param i32) (result i32)
  (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0)) (else (i32.add
    (call ${callee} (i32.sub (local.get 0) (i32.const 1))) (call ${callee} (i32.sub (local.get 0) (i32.const 2)))))))"""
FIB = "(module {})".format("".join(
    RECURSIVE.format(name=name, callee=callee, export='(export "f")' if name == "a" else "")
    for name, callee in zip("abcd", "bcda", strict=True)))
LOOP = """(module
  (func $small (param i32 i32) (result i32) (i32.add (local.get 0) (i32.xor (local.get 1) (local.get 0))))
  (func (export "f") (param i32) (result i32) (local $k i32) (local $sum i32)
    (loop $again
      (local.set $sum (call $small (local.get $sum) (local.get $k)))
      (br_if $again (i32.ne (local.tee $k (i32.add (local.get $k) (i32.const 1))) (local.get 0))))
    (local.get $sum)))"""


def time_of(text: str, argument: int) -> float:
    with wasm2c.Store() as store:
        f = wasm2c.compile(text, cache=False).instantiate(store).exports.f
        times = []
        for _ in range(9):
            start = time.perf_counter()
            f(argument)
            times.append(time.perf_counter() - start)
    return min(times)


def many_functions(count: int) -> str:
    """Each calls two others, and may be called."""
    order = random.Random(1)
    first, second = list(range(count)), list(range(count))
    order.shuffle(first)
    order.shuffle(second)
    functions = "".join(f"""(func $f{k} (param i32) (result i32) (local i32)
      (local.set 1 (i32.add (local.get 0) (i32.const {k})))
      (if (i32.gt_s (local.get 0) (i32.const 0)) (then
        (local.set 1 (i32.xor (call $f{first[k]} (i32.shr_s (local.get 0) (i32.const 1)))
                              (call $f{second[k]} (i32.sub (local.get 0) (i32.const 1)))))
        (i32.store (i32.and (local.get 1) (i32.const 1023)) (local.get 1))))
      (i32.add (local.get 1) (i32.load (i32.const {k % 1000 * 4}))))""" for k in range(count))
    return f'(module (memory 1) (export "f" (func 0)) {functions})'


def main() -> None:
    as_usual = compiler.pieces_of
    if sys.argv[1:]:
        text = many_functions(int(sys.argv[1]))
        for what, compiler.pieces_of in (("one piece", lambda binary: 1), ("as usual", as_usual)):
            start = time.perf_counter()
            wasm2c.compile(text, cache=False)
            print(f"{what}: {time.perf_counter() - start:.1f} s")
        return
    for what, text, argument in (("a recursive function, as four", FIB, 32),
                                 ("a small one in a loop", LOOP, 30_000_000)):
        times = []
        for count in (1, 8):
            compiler.pieces_of = lambda binary, count=count: count
            times.append(time_of(text, argument))
        print(f"{what}: {times[0] * 1000:.1f} ms in one piece, {times[1] * 1000:.1f} ms in 8")


if __name__ == "__main__":
    main()
