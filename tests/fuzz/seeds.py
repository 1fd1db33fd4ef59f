"""Writes the modules that `.ci/fuzz modules` begins with: one for each kind of thing that a binary can have."""

import sys
from pathlib import Path

from externref.wasm2c.compiler import to_binary
from externref.wasm2c.tools import Tools

MODULES = {
    "functions": """
        (type $t (func (param i32 i64 f32 f64 externref funcref v128) (result externref i32)))
        (import "a" "f" (func $f (param externref) (result externref)))
        (func (export "f") (type $t) local.get 4 call $f local.get 0)
        (func (export "g") (param externref) (result externref) (local v128 externref i32) local.get 0 call $f)
        (func (export "loop") (loop (br 0)))
        (func $deep (export "deep") (call $deep))""",
    "tables": """
        (import "a" "t" (table 2 10 externref))
        (table $u (export "u") 3 funcref) (table (export "v") 4 20 externref)
        (func $f (export "f") (param i32) (result externref) local.get 0 table.get 2)
        (func (export "g") (param i32 externref) (result i32) local.get 1 local.get 0 table.grow 2)
        (func (export "h") (param i32) i32.const 0 local.get 0 i32.const 2 table.copy 2 2)
        (func (export "i") (param i32) i32.const 1 local.get 0 call_indirect $u (param i32) (result externref) drop)
        (elem (table $u) (i32.const 1) func $f) (elem declare func $f)""",
    "elements": """
        (import "a" "g" (global $g externref))
        (table $t (export "t") 8 externref) (table $u 8 funcref) (func $f)
        (elem (table $t) (i32.const 1) externref (global.get 0) (ref.null extern))
        (elem $p externref (global.get 0)) (elem $q func $f $f) (elem declare func $f)
        (elem (table $u) (offset (i32.add (i32.const 1) (i32.const 2))) funcref (ref.func $f) (ref.null func))
        (func (export "init") (param i32) local.get 0 i32.const 0 i32.const 1 table.init $t $p)
        (func (export "drop") elem.drop $p elem.drop $q)""",
    "memories": """
        (import "a" "m" (memory 1 4)) (memory $n (export "n") i64 1 3)
        (data (i32.const 8) "text") (data $d "passive")
        (func (export "load") (param i32) (result i64) local.get 0 i64.load offset=4)
        (func (export "store") (param i64 f64) local.get 0 local.get 1 f64.store $n offset=8)
        (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
        (func (export "init") (param i32) local.get 0 i32.const 0 i32.const 7 memory.init $d)
        (func (export "fill") (param i64) local.get 0 i32.const 1 i64.const 100 memory.fill $n)""",
    "globals": """
        (import "a" "i" (global $i i32)) (import "a" "x" (global $x (mut externref)))
        (global $j i32 (global.get 0)) (global (export "v") (mut v128) (v128.const i32x4 1 2 3 4))
        (global (export "f") (mut f32) (f32.const nan:0x200000)) (global $r funcref (ref.func $get))
        (global (export "e") (mut externref) (ref.null extern))
        (func $get (export "get") (result externref) global.get $x global.get $x global.set 6)
        (func (export "i") (result i32) global.get $j global.get $i i32.add)""",
    "control": """
        (type $t (func (param i32) (result i32)))
        (table funcref (elem $f $g))
        (func $f (type $t) local.get 0 i32.eqz if (result i32) i32.const 1 else
            local.get 0 i32.const 1 i32.sub local.get 0 i32.const 1 i32.and return_call_indirect (type $t) end)
        (func $g (type $t) block (result i32) local.get 0 local.get 0 br_table 0 0 end return_call $f)
        (func (export "f") (type $t) local.get 0 call $f)
        (func (export "trap") unreachable) (func (export "div") (param i32) (result i32) i32.const 1 local.get 0 i32.div_s)
        (func $start nop) (start $start)""",
    "select": """
        (func (export "s") (param externref externref i32) (result externref)
            local.get 0 local.get 1 local.get 2 select (result externref))
        (func (export "v") (param v128) (result v128) local.get 0 i32x4.abs local.get 0 i8x16.add)
        (func (export "m") (result i32 i64 f32 f64) i32.const 1 i64.const 2 f32.const 3 f64.const 4)""",
}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in MODULES.items():
        (folder / f"{name}.wasm").write_bytes(to_binary(f"(module {text})", folder, Tools()))
    for source in folder.glob("source.*"):
        source.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
