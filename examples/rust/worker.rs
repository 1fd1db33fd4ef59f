//! A worker thread of Rust's that Python sends objects to. It knows nothing of Python: it owns what it is
//! sent, passes it to a callback, and lets it go on its own thread, without the GIL.

/// The one file to copy.
pub mod externref;

use externref::PyRef;
use std::ffi::c_void;
use std::sync::mpsc::{channel, Sender};
use std::thread::{spawn, JoinHandle};

/// A queue and the thread that works on it.
pub struct Worker {
    queue: Sender<Option<PyRef>>,
    thread: JoinHandle<()>,
}

/// What the references of this library look like: for Python to compare, before anything else.
#[no_mangle]
pub extern "C" fn abi_version() -> usize {
    externref::ABI_VERSION
}

/// Starts a worker, which lends each object to `callback`, on its thread. `stop` ends it.
#[no_mangle]
pub extern "C" fn start(callback: extern "C" fn(*mut c_void)) -> Box<Worker> {
    let (queue, received) = channel::<Option<PyRef>>();
    let thread = spawn(move || {
        for object in received {
            callback(object.as_ref().map_or(std::ptr::null_mut(), PyRef::as_raw));
            // The object is dropped here.
        }
    });
    Box::new(Worker { queue, thread })
}

/// Moves an object to the worker: the worker owns it from here on. Null is Python's None.
#[no_mangle]
pub extern "C" fn send(worker: &Worker, object: Option<PyRef>) {
    worker.queue.send(object).expect("the worker's thread has panicked");
}

/// Waits until the worker has done all that it was sent.
#[no_mangle]
pub extern "C" fn stop(worker: Box<Worker>) {
    drop(worker.queue);
    worker.thread.join().expect("the worker's thread has panicked");
}
