//! A Rust library for tests/test_rust.py: owners of Python's references, on threads of Rust's.

#![deny(unsafe_op_in_unsafe_fn)]

#[path = "../../examples/rust/externref.rs"]
pub mod externref;

use externref::PyRef;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};
use std::thread;

static KEPT: Mutex<Vec<PyRef>> = Mutex::new(Vec::new());

#[no_mangle]
pub extern "C" fn abi_version() -> usize {
    externref::ABI_VERSION
}

/// Moves a reference in. Null is ignored.
#[no_mangle]
pub extern "C" fn keep(object: Option<PyRef>) {
    KEPT.lock().unwrap().extend(object);
}

/// Moves the newest out: null if there is none.
#[no_mangle]
pub extern "C" fn take() -> Option<PyRef> {
    KEPT.lock().unwrap().pop()
}

/// The owners of what the caller lends, with the one that this makes.
///
/// # Safety
///
/// `raw` is null, or the caller owns it during the call.
#[no_mangle]
pub unsafe extern "C" fn owners(raw: *mut c_void) -> usize {
    unsafe { PyRef::clone_from_raw(raw) }.map_or(0, |object| object.strong_count())
}

/// Drops all that is kept, on four threads, and does not wait for them.
#[no_mangle]
pub extern "C" fn forget_on_threads() {
    let kept = std::mem::take(&mut *KEPT.lock().unwrap());
    let queue = Arc::new(Mutex::new(kept.into_iter()));
    for _ in 0..4 {
        let queue = Arc::clone(&queue);
        thread::spawn(move || loop {
            let next = queue.lock().unwrap().next();
            if next.is_none() {
                break;
            }
        });
    }
}

/// Clones and drops on four threads, each of which starts as an owner and ends as none.
#[no_mangle]
pub extern "C" fn hammer(object: PyRef, loops: usize) {
    let shared = Arc::new(object);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (shared, mut owned) = (Arc::clone(&shared), PyRef::clone(&shared));
            thread::spawn(move || {
                for _ in 0..loops {
                    owned = PyRef::clone(&shared);
                }
                drop(owned);
            })
        })
        .collect();
    drop(shared);
    for thread in threads {
        thread.join().unwrap();
    }
}
