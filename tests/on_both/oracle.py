"""Runs a module of random_modules.py on both runtimes, with payloads that count their drops. Promises P1, P2.

check() raises Wrong if the runtimes differ in what can be seen, if a payload is dropped while something reaches it,
or if one is not dropped just once by the end. The idea is wasmtime's, of its fuzzer for operations on references. As
its silence would mean nothing without collections that free, Figures counts these.
"""

import contextlib
import dataclasses
import functools
import gc
import itertools
import sys
import threading
from collections import Counter

import externref
from externref import VMExternRef
from on_both.random_modules import FUEL, INSTRUCTIONS, RECURSION, REGISTERS, TYPES, all_tables, to_wat
from on_both.runtimes import OnWasm2c, OnWasmtime

INSTANCES = 2   # of the module, in one store; their frames may be on the stack in turns
SLOTS = 4       # what the hosts keep
PERMANENT = 2   # payloads that are there all the time, so that a drop too many of them is seen
BURST = 600     # references for the guest at once: more than a store takes without a collection of its own
BURSTS = 3      # in an operation of the program
LETTERS = {name: letter for letter, name in TYPES.items()}


class Wrong(Exception):
    """The oracle's verdict. No assertion, which the hosts' own code might make."""


class CountDrops:
    def __init__(self, drops, number):
        self.drops, self.number = drops, number

    def __del__(self):
        self.drops[self.number] += 1


class Failure(Exception):
    """A host's."""


class Lack(LookupError):
    """A host's, of another kind."""


class Stop(BaseException):
    """A host's, that `except Exception` lets through."""


FAILURES = (Failure, Lack, Stop)


@dataclasses.dataclass
class Figures:
    """Of one runtime, for all programs."""

    programs: int = 0
    calls: int = 0          # of functions of the module, by Python
    host_calls: int = 0
    made: int = 0
    dropped: int = 0
    collections: int = 0    # asked for by store.gc()
    freeing: int = 0        # of them, those that freed a payload
    in_frames: int = 0      # payloads that they freed while frames of the module were active
    by_itself: int = 0      # payloads dropped in a burst, by collections that nobody asked for
    failures: int = 0       # exceptions of hosts
    traps: Counter = dataclasses.field(default_factory=Counter)     # by instruction and reason
    executed: Counter = dataclasses.field(default_factory=Counter)  # by instruction


class Common:
    """What runs share that go on at the same time."""

    def __init__(self):
        self.drops = Counter()
        self.slots = [None] * SLOTS
        self.made = 0       # payloads
        self.lock = threading.Lock()

    def payload(self):
        with self.lock:
            number = self.made
            self.made += 1
        return CountDrops(self.drops, number)

    def compare_drops(self):
        """In the end, of all."""
        if wrong := {number: self.drops[number] for number in range(self.made) if self.drops[number] != 1}:
            raise Wrong(f"payloads were not dropped once, but so often: {wrong}")


class Run:
    """One program on one runtime. `seen` is what can be seen of it: references are the numbers of their payloads.

    No payload is in a variable of the oracle's own while it collects, but in registers and slots, which it knows.
    """

    def __init__(self, runtime, program, figures, common=None):
        self.program, self.figures, self.common = program, figures, common or Common()
        self.drops, self.slots = self.common.drops, self.common.slots
        self.seen = []
        self.frames = []    # the registers of the program, and of the hosts that run
        self.function = None    # the one at hand
        self.calls = self.bursts = 0
        self.permanent = self.payloads(PERMANENT)
        self.anchors = self.permanent * 8
        self.references = [*map(sys.getrefcount, self.permanent)]
        hosts = {f"h{i}": functools.partial(self.host, i) for i in range(len(program["hosts"]))}
        constants = [dict(zip((f"c{i}" for i in range(program["constants"])), self.payloads(program["constants"]), strict=True))
                     for _ in range(INSTANCES)]
        self.runtime = runtime(to_wat(program), hosts, constants, program["release_gil"])
        del constants
        self.fuel = self.runtime.numbers["fuel"]
        self.instances = self.runtime.instances
        self.exports = self.instances[0]
        self.tables = [(i, kind) for i, (kind, *_, exported) in enumerate(program["tables"]) if exported]
        self.globals = [i for i, exported in enumerate(program["globals"]) if exported]
        self.errors = (self.runtime.Trap, *FAILURES)

    def payload(self):
        self.figures.made += 1
        return self.common.payload()

    def payloads(self, count):
        return [self.payload() for _ in range(count)]

    def number(self, ref):
        """Whose reference it is. Nobody has one to what was dropped."""
        if ref is None:
            return None
        payload = ref.value if isinstance(ref, VMExternRef) else ref
        if not isinstance(payload, CountDrops):
            raise Wrong(f"a {type(payload).__name__} came out")
        if payload.number in self.drops:
            raise Wrong(f"payload {payload.number} was dropped, and came out")
        return payload.number

    # --- What is there

    def held(self):
        """What tables and globals have, of each instance."""
        return [refs for exports in self.instances for refs in self.held_by(exports)]

    def held_by(self, exports):
        tables = [[*map(self.number, elements)] for elements in self.elements(exports, "R")]
        refs = (exports[f"g{i}"].value if exported else exports[f"read{i}"]()
                for i, exported in enumerate(self.program["globals"]))
        constants = (exports[f"c{i}"]() for i in range(self.program["constants"]))
        return [*tables, [*map(self.number, refs)], [*map(self.number, constants)]]

    def elements(self, exports, kind):
        """Of each table of this kind."""
        for i, (of, *_, exported) in enumerate(all_tables(self.program)):
            if of == kind:
                yield exports[f"t{i}"] if exported else map(exports[f"get{i}"], range(exports[f"size{i}"]()))

    def functions(self):
        """The types of what tables of functions have: two functions of one type look the same until they are called."""
        return [[*map(self.type_of, elements)] for exports in self.instances for elements in self.elements(exports, "F")]

    def type_of(self, function):
        return function and function.type

    def mine(self):
        """What the program and its hosts have."""
        return itertools.chain(self.slots, self.permanent, *self.frames)

    def reachable(self, held):
        mine = map(self.number, self.mine())
        return {number for number in itertools.chain(mine, *held) if number is not None}

    def collect(self):
        held = self.held()
        reachable = self.reachable(held)
        before = len(self.drops)
        self.runtime.store.gc()
        externref.drain()
        freed = len(self.drops) - before
        self.figures.collections += 1
        self.figures.freeing += freed > 0
        self.figures.in_frames += freed * (self.calls > 0)
        if early := sorted(number for number in reachable if number in self.drops):     # before anybody looks at them
            raise Wrong(f"payloads {early} were dropped by a collection, and can be reached")
        if self.held() != held:
            raise Wrong(f"a collection changed {held} to {self.held()}")
        if not self.calls:
            self.compare_drops(reachable)
        self.seen.append(held)

    def compare_drops(self, reachable):
        """Without frames there is nothing that hides a reference: all that is not reachable is gone."""
        if missing := set(range(self.common.made)) - reachable - set(self.drops):
            gc.collect()    # what an exception held
            externref.drain()
            missing -= set(self.drops)
            if missing:
                raise Wrong(f"payloads {sorted(missing)} cannot be reached, and were not dropped by a collection")
        if twice := [number for number, count in self.drops.items() if count > 1]:
            raise Wrong(f"payloads {twice} were dropped more than once")

    def compare_references(self):
        """Those to the permanent payloads: if one is missing, Python's own collector may not see them."""
        references = [*map(sys.getrefcount, self.permanent)]
        if any(now > before for now, before in zip(references, self.references, strict=True)):
            gc.collect()
            references = [*map(sys.getrefcount, self.permanent)]
        if references != self.references:
            raise Wrong(f"there were {self.references} references to the permanent payloads, and now {references}")

    # --- What is done

    def host(self, i, *args):
        described = self.program["hosts"][i]
        self.figures.host_calls += 1
        refs = [arg for arg, kind in zip(args, described["params"], strict=True) if kind == "R"]
        registers = refs + self.payloads(REGISTERS - len(refs))
        self.seen.append((f"h{i}", self.visible(described["params"], args)))
        self.take_function(described["params"], args)
        del args, refs
        self.frames.append(registers)
        try:
            for operation in described["script"]:
                self.do(operation, registers)
        finally:
            self.frames.pop()
        places = iter(described["gives"])
        results = tuple(self.function if kind == "F" else registers[next(places, 0)] if kind == "R" else i
                        for kind in described["results"])
        return results[0] if len(results) == 1 else results

    def visible(self, kinds, values):
        see = {"R": self.number, "N": int, "F": self.type_of}
        return [see[kind](value) for kind, value in zip(kinds, values, strict=True)]

    def take_function(self, kinds, values):
        for kind, value in zip(kinds, values, strict=True):
            if kind == "F":
                self.function = value

    def do(self, operation, registers):
        match operation:
            case "make", r:
                registers[r] = self.payload()
            case "forget", r:
                registers[r] = None
            case "keep", k, r:
                self.slots[k] = registers[r]
            case "kept", r, k:
                registers[r] = self.slots[k]
            case "permanent", r, i:
                registers[r] = self.permanent[i % PERMANENT]
            case "wrap", r:
                if isinstance(registers[r], CountDrops):
                    registers[r] = VMExternRef(registers[r])
            case "switch", i:
                self.exports = self.instances[i % INSTANCES]
            case "collect",:
                self.collect()
            case "burst",:
                self.burst()
            case "call", f, *call:
                self.call(self.exports[f"f{f % len(self.program['functions'])}"], registers, *call)
            case "try", *call:
                with self.outcome():
                    self.do(["call", *call], registers)
            case "function", f:
                self.function = self.exports[f"f{f % len(self.program['functions'])}"]
            case "invoke", *call:
                if self.function is not None and (not self.calls or self.fuel.value > RECURSION):    # hosts look at no fuel
                    self.call(self.function, registers, *call)
            case "fail", r, kind:
                raise FAILURES[kind % len(FAILURES)](registers[r])
            case "get", r, t, i, refs if self.tables:
                with self.outcome(IndexError):
                    table, kind = self.table(t)
                    if kind == "F":
                        self.function = table[i]
                        self.seen.append(self.type_of(self.function))
                    else:
                        registers[r] = table.ref(i) if refs else table[i]
                        self.seen.append(self.number(registers[r]))
            case "set", t, i, r if self.tables:
                with self.outcome(IndexError):
                    table, kind = self.table(t)
                    table[i] = self.element(kind, registers[r])
            case "fill", t, i, r, n if self.tables:
                with self.outcome(IndexError):
                    table, kind = self.table(t)
                    table.fill(i, self.element(kind, registers[r]), n)
            case "grow", t, n, r if self.tables:
                with self.outcome(ValueError):
                    table, kind = self.table(t)
                    self.seen.append(table.grow(n, self.element(kind, registers[r])))
            case "read", r, g, refs if self.globals:
                registers[r] = self.shared(g).ref if refs else self.shared(g).value
                self.seen.append(self.number(registers[r]))
            case "write", g, r if self.globals:
                self.shared(g).value = registers[r]
            case ("get" | "set" | "fill" | "grow" | "read" | "write"), *_:
                pass    # none is exported
            case _:
                raise ValueError(operation)

    def table(self, t):
        """One that is exported, and its kind."""
        i, kind = self.tables[t % len(self.tables)]
        return self.exports[f"t{i}"], kind

    def element(self, kind, ref):
        """What may lie in a table of this kind."""
        return self.function if kind == "F" else ref

    def shared(self, g):
        """A global that is exported."""
        return self.exports[f"g{self.globals[g % len(self.globals)]}"]

    @contextlib.contextmanager
    def outcome(self, *more):
        """Errors are something that is seen."""
        try:
            yield
        except (*self.errors, *more) as error:
            if isinstance(error, self.runtime.Trap):
                self.trapped(self.runtime.kind(error))
            elif isinstance(error, FAILURES):
                self.figures.failures += 1
                self.seen.append((type(error).__name__, self.number(error.args[0])))
            else:
                self.seen.append(type(error).__name__)

    def trapped(self, kind):
        """The runtimes do not tell each reason of a call_indirect apart from the others."""
        instruction = "unreachable" if kind == "unreachable" else INSTRUCTIONS[self.runtime.numbers["last"].value]
        self.figures.traps[f"{instruction}: {kind}"] += 1
        self.seen.append(("trap", instruction))

    def call(self, function, registers, refs, numbers, places, as_refs):
        params, results = ("".join(map(LETTERS.get, types)) for types in function.type)
        self.fuel.value = self.fuel.value - RECURSION if self.calls else FUEL
        args = self.taken(registers, params, iter(refs), iter(numbers))
        self.figures.calls += 1
        self.calls += 1
        try:
            values = (function.refs if as_refs else function)(*args)
        finally:
            self.calls -= 1
            del args
        values = values if len(results) > 1 else [values][:len(results)]     # of none, it is None
        self.seen.append((str(function.type), self.visible(results, values)))
        self.take_function(results, values)
        places = iter(places)
        for kind, value in zip(results, values, strict=True):
            if kind == "R":
                registers[next(places, 0)] = value

    def taken(self, registers, kinds, refs, numbers):
        """Arguments. Their registers get new payloads, lest they keep what only the module is to keep."""
        used = [next(refs, 0) for kind in kinds if kind == "R"]
        values = iter([registers[r] for r in used])
        for r in used:
            registers[r] = self.payload()
        return [self.function if kind == "F" else next(values) if kind == "R" else next(numbers, 1) for kind in kinds]

    def burst(self):
        """So many references that the store collects by itself."""
        self.bursts += 1
        if self.bursts <= BURSTS:
            through, before = self.exports.through, len(self.drops)
            for _ in range(BURST):
                through(self.payload())
            self.figures.by_itself += len(self.drops) - before

    # --- The whole

    def steps(self):
        """The program, operation by operation."""
        registers = self.payloads(REGISTERS)
        self.frames.append(registers)
        for operation in self.program["main"]:
            self.bursts = 0
            with self.outcome():
                self.do(operation, registers)
            self.seen.append((self.held(), self.functions()))
            yield
        self.collect()
        executed = {name: self.runtime.numbers[name].value for name in INSTRUCTIONS}
        self.seen.append(executed)
        self.figures.executed.update(executed)
        self.figures.programs += 1

    def run(self):
        for _ in self.steps():
            pass

    def close_store(self):
        self.runtime.store.close()
        externref.drain()
        self.instances.clear()
        self.runtime.numbers.clear()
        self.exports = self.function = self.fuel = None

    def close(self):
        """Only what the runtime owns is let go of; then all is as it was, before the rest goes."""
        self.close_store()
        self.compare_drops(self.reachable([]))
        self.frames.clear()
        self.slots.clear()
        self.compare_references()
        self.permanent.clear()
        self.anchors.clear()
        gc.collect()    # what an exception held, whose frames had registers
        externref.drain()
        self.common.compare_drops()
        self.figures.dropped += self.drops.total()


def check(program, figures, runtimes=(OnWasm2c, OnWasmtime)):
    """figures: Figures by the name of the runtime."""
    seen = []
    for runtime in runtimes:
        before = externref.stats()
        run = Run(runtime, program, figures[runtime.name])
        try:
            run.run()
            run.close()
        finally:
            run.runtime.store.close()
        seen.append(run.seen)
        del run
        gc.collect()
        externref.drain()
        if externref.stats() != before:
            raise Wrong(f"{runtime.name}: {externref.stats()}, and before {before}")
    for step, each in enumerate(itertools.zip_longest(*seen)):
        if any(one != each[0] for one in each):
            differ = (f"{runtime.name} has {one}" for runtime, one in zip(runtimes, each, strict=True))
            raise Wrong(f"step {step}: {', '.join(differ)}")
