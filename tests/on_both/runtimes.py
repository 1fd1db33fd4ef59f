"""A module of random_modules.py in a store of each runtime: an instance for each set of constants that is imported."""

import functools

from on_both.random_modules import NUMBERS


class OnWasm2c:
    name = "wasm2c"
    kinds = {"Unreachable instruction executed": "unreachable",
             "Invalid call_indirect or return_call_indirect": "no such function",
             "Out-of-bounds access in linear memory or a table": "out of bounds"}

    def __init__(self, text, hosts, constants, release_gil):
        """`constants` are, for each instance, what it alone imports. The numbers are shared by all."""
        from externref import wasm2c
        self.Trap = wasm2c.Trap
        self.store = wasm2c.Store()
        module = self.compiled(text)
        self.numbers = {name: wasm2c.Global(self.store, wasm2c.GlobalType("i32", mutable=True), 0) for name in NUMBERS}
        self.instances = [module.instantiate(self.store, {"host": hosts | self.numbers | own}, release_gil=release_gil).exports
                          for own in constants]

    @staticmethod
    @functools.lru_cache(16)
    def compiled(text):
        from externref import wasm2c
        return wasm2c.compile(text, cache=False)

    def kind(self, trap):
        return self.kinds[trap.reason]


class OnWasmtime:
    name = "wasmtime"
    kinds = {"UNREACHABLE": "unreachable", "INDIRECT_CALL_TO_NULL": "null", "BAD_SIGNATURE": "another type",
             "TABLE_OUT_OF_BOUNDS": "out of bounds"}

    def __init__(self, text, hosts, constants, release_gil):
        import wasmtime

        import externref.wasmtime as ew
        engine = self.engine()
        self.Trap = wasmtime.Trap
        self.store = wasmtime.Store(engine)
        module = wasmtime.Module(engine, text)
        numbers = {name: wasmtime.Global(self.store, wasmtime.GlobalType(wasmtime.ValType.i32(), True), 0) for name in NUMBERS}
        self.numbers = {name: ew.bind(self.store, number) for name, number in numbers.items()}

        def imported(item, own):
            if item.name in own:
                return wasmtime.Global(self.store, item.type, own[item.name])
            return numbers[item.name] if item.name in numbers else ew.func(self.store, item.type, hosts[item.name])

        def instance(own):
            items = [imported(item, own) for item in module.imports]
            return ew.bind(self.store, wasmtime.Instance(self.store, module, items).exports(self.store), release_gil=release_gil)

        self.instances = [*map(instance, constants)]

    @staticmethod
    @functools.cache
    def engine():
        import wasmtime
        return wasmtime.Engine()

    def kind(self, trap):
        return self.kinds[trap.trap_code.name]
