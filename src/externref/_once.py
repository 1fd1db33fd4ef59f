"""Imported before the rest: the package lives in one interpreter of a process, once.

Its lists and counts are the process's, and compiled code holds their addresses: neither a second interpreter
nor one that is initialized again after Py_FinalizeEx() could have them.
"""


def require_only_interpreter() -> None:
    try:
        from externref import _core
    except ImportError as error:
        # CPython's words, or Cython's, for a module that is loaded elsewhere.
        if "interpreter" not in str(error):
            raise
        raise ImportError("externref is in use by another interpreter of this process: it can be imported in one only; "
                          "run what needs it there, or in another process") from error
    if getattr(_core, "__file__", None) is None:    # the folder of its parts
        raise ImportError("externref's extension modules are not built here: python -m pip install -e . builds them")
    if getattr(_core, "VMExternRef", None) is None:
        raise ImportError("externref was imported before this interpreter was finalized and initialized again: "
                          "it cannot be imported a second time in one process")


require_only_interpreter()
