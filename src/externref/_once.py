"""Imported before the rest: the package lives in the main interpreter of a process, once.

Its lists and counts are the process's, and compiled code holds their addresses: neither a second interpreter
nor one that is initialized again after Py_FinalizeEx() could have them.
"""

import _thread

MAIN_ONLY = ("externref can be imported in the main interpreter of a process only: run what needs it there, or in "
             "another process")


def is_main_interpreter() -> bool:
    known = getattr(_thread, "_is_main_interpreter", None)
    if known is not None:                                   # from 3.12 on
        return bool(known())
    try:
        interpreters = __import__("_xxsubinterpreters")     # importlib would take longer than this
    except ImportError:
        return True
    return bool(interpreters.get_current() == interpreters.get_main())


def require_only_interpreter() -> None:
    # Others could not be told from it by pending calls, nor end while the helper thread knows them.
    if not is_main_interpreter():
        raise ImportError(MAIN_ONLY)
    try:
        from externref import _core
    except ImportError as error:
        # CPython's words, or Cython's, for a module that is loaded elsewhere.
        if "interpreter" not in str(error):
            raise
        raise ImportError(MAIN_ONLY) from error
    if getattr(_core, "__file__", None) is None:    # the folder of its parts
        raise ImportError("externref's extension modules are not built here: python -m pip install -e . builds them")
    if getattr(_core, "VMExternRef", None) is None:
        raise ImportError("externref was imported before this interpreter was finalized and initialized again: "
                          "it cannot be imported a second time in one process")


require_only_interpreter()
