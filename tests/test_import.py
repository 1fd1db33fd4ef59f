"""What `import externref` loads: programs that may not need it, a command line's, wait for that."""

import pytest

import externref

LOADED = """
import atexit, gc, sys
before = set(sys.modules)
import externref
print(*sorted(set(sys.modules) - before - {"_xxsubinterpreters", "cython_runtime"}))
"""


def test_import_loads_the_core_alone(run_python):
    # collections alone, for namedtuple, took as long as these.
    assert run_python(LOADED) == "externref externref._core externref._once\n"


@pytest.mark.parametrize("name", ["Function", "VMExternRefActivationsTable"])
def test_what_is_loaded_when_asked_for(run_python, name):
    assert run_python(
        f"import externref; assert {name!r} in dir(externref) and {name!r} not in vars(externref)\n"
        f"print(externref.{name} is vars(externref)[{name!r}])") == "True\n"


def test_names():
    names = {}
    exec("from externref import *", names)
    assert {name for name in names if name != "__builtins__"} == set(externref.__all__)
    assert {name for name in dir(externref) if not name.startswith("_")} >= set(externref.__all__)
    with pytest.raises(AttributeError, match="^module 'externref' has no attribute 'Functions'$"):
        externref.Functions


def test_named_tuples():
    counts = externref.stats()
    assert counts == tuple(counts) == (counts.live_blocks, counts.handles, counts.exposed, counts.pending_drops)
    assert repr(counts) == f"externref.Stats(live_blocks={counts[0]}, handles={counts[1]}, exposed={counts[2]}, pending_drops={counts[3]})"
    assert externref.Stats((1, 2, 3, 4)).handles == 2
    # They would be the bounds of what is written.
    for name in ("n_fields", "n_sequence_fields", "n_unnamed_fields"):
        with pytest.raises(TypeError, match="immutable"):
            setattr(externref.Stats, name, 100)
