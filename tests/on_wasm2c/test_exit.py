"""Interpreter exit is silent and safe, whatever a store holds. Promise P8."""

import pytest

import exit_matrix
import exit_matrix_stores

CLOSED = """(module (table (export "t") 2 externref) (global (export "g") (mut externref) (ref.null extern))
  (memory (export "m") 1) (func (export "id") (param externref) (result externref) (local.get 0)))"""


def test_exit_with_everything_alive(run_python, tmp_path):
    code = """
import sys
from externref import wasm2c
store = wasm2c.Store()
module = wasm2c.compile(sys.argv[1])
class Loud:
    def __del__(self):
        try:
            exports.t[0]
        except (RuntimeError, ValueError, NameError, TypeError, AttributeError):
            pass
exports = module.instantiate(store).exports
exports.t[0] = Loud()
exports.id(Loud())
keep = Loud(); keep.cycle = keep, exports, store
exports.t[1] = keep
print("done")
"""
    assert run_python(code, CLOSED) == "done\n"


@pytest.mark.parametrize(("when", "mode", "how", "runtime"), exit_matrix.cells("wasm2c", few=True))
def test_matrix(run_script, when, mode, how, runtime):
    ended = run_script(how, "exit_matrix.py", when.__name__, mode.__name__, runtime)
    states = exit_matrix_stores.make_states(None)
    deeds = exit_matrix_stores.make_deeds(exit_matrix_stores.none, when is not exit_matrix.on_daemon_thread)
    wrong = exit_matrix.judge(when, mode, states, deeds, ended.returncode, ended.stdout, ended.stderr)
    assert not wrong, "\n".join(wrong)
