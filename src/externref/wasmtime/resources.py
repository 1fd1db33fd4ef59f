"""Resources of components that are Python objects.

A component never sees the object, nor an address: wasmtime gives it a handle, which it can pass on, lend and
drop. The host's representation of a resource has 32 bits, too few for a raw pointer, so it is a key of
the table here, which holds a reference for each resource that a component owns.

Several threads may use one table, each with a store of its own: what is taken out of a dictionary, one of them takes.
"""

import itertools
import weakref
from typing import Any

from wasmtime import StoreContext, Storelike, component

from externref._core import VMExternRef
from externref.wasmtime._calls import address_of, closing, resource_types

# Each by its number. No WeakSet: another thread may add to it while it is gone through.
_kinds: "dict[int, weakref.ref[Resource]]" = {}


def _take(address: int) -> list[VMExternRef[Any]]:
    """The references of a store, by address_of() it, that is to be deleted: wasmtime runs no destructors then."""
    kinds = [reference() for reference in list(_kinds.values())]
    return [ref for kind in kinds if kind is not None for ref in kind._take(address)]


closing.append(_take)


class _Given(component.ResourceHost):
    """A resource on its way to a component. One that never gets there is over when this is."""

    _kind: "Resource | None" = None     # None: nothing is to be released here, or not any more

    def to_any(self, store: Storelike) -> component.ResourceAny:
        if not self.owned:
            return super().to_any(store)
        kind = self._take_kind()
        if kind is None:
            raise ValueError("the resource is the component's already")     # wasmtime would make a second handle
        try:
            made = super().to_any(store)
        except BaseException:
            self._kind = kind
            raise
        kind._owners[self.rep] = address_of(store)
        return made

    def _take_kind(self) -> "Resource | None":
        kind: Resource | None = self.__dict__.pop("_kind", None)
        return kind

    def _delete(self, ptr: Any) -> None:
        kind, rep = self._take_kind(), self.rep
        super()._delete(ptr)
        if kind is not None:
            kind._release(rep)


class Resource:
    """A resource type of the component model whose resources are Python objects.

        things = Resource()
        with linker.root() as root, root.add_instance("host") as host:
            things.define(host, "thing")
            host.add_func("make", lambda store: things.own(Thing()))                        # -> own<thing>
            host.add_func("use", lambda store, thing: things.value(store, thing).use())     # borrow or own

    Any object is a resource; a VMExternRef passes as the reference that it is. What a component owns holds one count,
    given up when the component drops the resource, when it gives it back and value() takes it, or when the store is
    closed. The release runs finalizers at that point, on that thread.

    One of these may serve several stores. Needs the GIL; a store is used by one thread at a time.

    Source: wasmtime_component_linker_instance_add_resource.
    """

    def __init__(self) -> None:
        self._number = next(resource_types)
        self._keys = itertools.count(1)
        self._refs: dict[int, VMExternRef[Any]] = {}    # by representation
        self._owners: dict[int, int] = {}       # the store whose component owns it, by address_of()
        number, kinds = self._number, _kinds        # also at exit, when names are gone
        kinds[number] = weakref.ref(self, lambda _: kinds.pop(number, None))

    @property
    def type(self) -> component.ResourceType:
        """The wasmtime.component.ResourceType."""
        return component.ResourceType.host(self._number)

    def define(self, instance: component.LinkerInstance, name: str, /) -> None:
        """Adds the type to what a linker gives components, under a name.

        Raises WasmtimeError as wasmtime-py's add_resource() does.
        """
        instance.add_resource(name, self.type, self._destroy)

    def own(self, value: Any, /) -> component.ResourceHost:
        """A resource that a component is to own: for a result or argument own<...>, once; a second time is ValueError.

        Raises MovedError for a spent VMExternRef; MemoryError if there are 2**32 resources.
        """
        return self._give(component.ResourceHost.own, value)

    def borrow(self, value: Any, /) -> component.ResourceHost:
        """A resource that is lent for a call: for an argument borrow<...>; it lasts as long as what this returns.

        Raises as own() does.
        """
        return self._give(component.ResourceHost.borrow, value)

    def value(self, store: Storelike, resource: component.ResourceAny | component.ResourceHost, /) -> Any:
        """The object of a resource that came from a component.

        store: what the host function was called with, or the Store that a component's function was called with.
        resource: what a borrow<...> or own<...> came as, to be used up. An owned one is over: the caller has the
            object.

        Raises TypeError if it is no resource of this type, ValueError if it is over, WasmtimeError as wasmtime-py does.
        """
        return self.ref(store, resource).value

    def ref(self, store: Storelike, resource: component.ResourceAny | component.ResourceHost, /) -> VMExternRef[Any]:
        """The same as a VMExternRef: a new one for what was lent."""
        host = resource.to_host(store) if isinstance(resource, component.ResourceAny) else resource
        if not isinstance(host, component.ResourceHost):
            raise TypeError(f"expected a resource of a component, not {type(resource).__name__}")
        if host.type != self._number:
            raise TypeError("the resource is of another type")
        rep, owned = host.rep, host.owned
        ref = self._refs.pop(rep, None) if owned else self._refs.get(rep)
        if ref is None:
            raise ValueError("the resource is over")
        if not owned:
            return ref.clone()
        if isinstance(host, _Given):
            host._kind = None
        host.close()
        self._owners.pop(rep, None)
        return ref

    def __len__(self) -> int:
        """How many resources there are: owned by components, lent, or on their way."""
        return len(self._refs)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<externref.wasmtime.Resource, {len(self)} alive>"

    def _give(self, make: Any, value: Any) -> component.ResourceHost:
        ref = value.clone() if isinstance(value, VMExternRef) else VMExternRef(value)
        rep = next(self._keys)
        if rep >> 32:
            raise MemoryError("no resource can be told from the others any more: make another Resource")
        self._refs[rep] = ref
        try:
            made: _Given = _Given._from_ptr(make(rep, self._number)._consume())     # type: ignore[assignment]
        except BaseException:
            self._release(rep)
            raise
        made._kind = self
        return made

    def _destroy(self, store: StoreContext, rep: int) -> None:
        self._release(rep)

    def _release(self, rep: int) -> None:
        self._owners.pop(rep, None)
        ref = self._refs.pop(rep, None)
        if ref is not None:
            ref.drop()

    def _take(self, address: int) -> list[VMExternRef[Any]]:
        owned = [rep for rep, owner in list(self._owners.items()) if owner == address]
        taken = [self._refs.pop(rep, None) for rep in owned if self._owners.pop(rep, None) is not None]
        return [ref for ref in taken if ref is not None]
