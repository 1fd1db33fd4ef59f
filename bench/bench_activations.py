"""What does a sweep of the activations table cost, for each entry?

No entry is on a stack, so the sweep gives up every one; the references are owned elsewhere
too, so that no payload is freed.
"""

from time import perf_counter_ns

from harness import Program

MANY = [1_000, 10_000, 100_000, 1_000_000]


def nanoseconds(many):
    """Of a sweep, for each of its entries."""
    from externref import VMExternRef
    from externref._activations import VMExternRefActivationsTable

    refs = [VMExternRef(None) for _ in range(many)]
    table = VMExternRefActivationsTable()
    for ref in refs:
        table.insert_without_gc(ref.clone())
    start = perf_counter_ns()
    swept = table.sweep()
    end = perf_counter_ns()
    assert swept == many
    return (end - start) / many


QUESTIONS = {
    "activations: sweep": [Program(f"VMExternRef, {many:,}", "ns", nanoseconds, (many,)) for many in MANY],
}


def test_activations(show):
    show()
