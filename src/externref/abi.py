"""What a JIT needs to know of a reference: ints, all from externref.h.

Offsets and sizes are in bytes. The raw pointer is the address of the footer.

    REF_COUNT_OFFSET    of the count, in the footer; a machine word, changed atomically
    VALUE_PTR_OFFSET    of the payload's address, in the footer
    VTABLE_OFFSET       of the vtable's address, in the footer
    FOOTER_SIZE         of the footer
    DROP_SLOW_OFFSET    in the vtable, of the `void (*)(void *)` to call with the raw
                        pointer after taking the count to zero
    ABI_VERSION         EXTERNREF_ABI_VERSION of the header this was built with
    clone_address       of a `void *(void *)` that adds an owner and returns its argument
    drop_address        of a `void (void *)` that gives up an owner: any destroy callback
    ACTIVATIONS_NEXT_OFFSET, ACTIVATIONS_END_OFFSET
                        of `next` and `end`, at the address of a VMExternRefActivationsTable
                        (externref_activations.h)

Both functions ignore null, and may be called on any thread, without the GIL.
"""

from externref._activations import ACTIVATIONS_END_OFFSET, ACTIVATIONS_NEXT_OFFSET
from externref._core import (
    ABI_VERSION,
    DROP_SLOW_OFFSET,
    FOOTER_SIZE,
    REF_COUNT_OFFSET,
    VALUE_PTR_OFFSET,
    VTABLE_OFFSET,
    Layout,
    clone_address,
    drop_address,
    layout_for,
)

__all__ = [
    "ABI_VERSION",
    "ACTIVATIONS_END_OFFSET",
    "ACTIVATIONS_NEXT_OFFSET",
    "DROP_SLOW_OFFSET",
    "FOOTER_SIZE",
    "REF_COUNT_OFFSET",
    "VALUE_PTR_OFFSET",
    "VTABLE_OFFSET",
    "Layout",
    "clone_address",
    "drop_address",
    "layout_for",
]
