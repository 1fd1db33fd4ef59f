"""Whether the code of an engine looks at epochs, which no function of wasmtime's tells."""

import contextlib

import wasmtime

# (module (func (export "f")))
MODULE = b"\0asm\1\0\0\0" b"\1\4\1\x60\0\0" b"\3\2\1\0" b"\7\5\1\1f\0\0" b"\x0a\4\1\2\0\x0b"


def looks_at_epochs(engine: wasmtime.Engine) -> bool:
    """A new store's deadline is at once."""
    with wasmtime.Store(engine) as store:
        with contextlib.suppress(wasmtime.WasmtimeError):   # the engine counts none
            store.set_fuel(1 << 40)
        instance = wasmtime.Instance(store, wasmtime.Module(engine, MODULE), [])
        try:
            instance.exports(store)["f"](store)  # type: ignore[operator, unused-ignore]
        except wasmtime.Trap as trap:
            return trap.trap_code == wasmtime.TrapCode.INTERRUPT
    return False
