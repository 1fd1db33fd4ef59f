/* Compile-only: every header of the package's that is C, for targets that no CPython is there for.
 * Python.h is the one of stand_in/. */
#include <Python.h> /* first, as in every extension module */

#include "externref.h"
#include "externref_activations.h"

#include "_activations/refset.h"
#include "_core/atomics.h"
#include "_core/hold.h"
#include "_core/live.h"
#include "_core/locks.h"
#include "_core/memory.h"
#include "_core/monotonic.h"
#include "_core/pending.h"
#include "_core/registry.h"
#include "wasmtime/abi.h"
#include "wasmtime/owner.h"
#if defined(THREADS)
#  include "_core/helper.h"
#  include "_core/native.h"
#  include "wasmtime/clock.h"
#endif
#if UINTPTR_MAX == UINT64_MAX
#  include "_function/call.h"
#  include "wasm2c/runtime.h"
#endif
#if defined(WASM2C)
#  include "wasm2c/enter.h"
#endif
