//! What the proxy calls: the callbacks of the proxy-wasm ABI 0.2.1 that Mooring needs, and no other. Each hands over to
//! [`crate::shell::contexts`]. A callback that is not exported costs nothing and cannot fail
//! (docs/decisions/0006-the-abi-is-called-without-the-sdk.md).
#![allow(unsafe_code)]
// Outside the VM nothing calls them; they are compiled all the same, for the compiler and clippy to see.
#![cfg_attr(not(target_os = "wasi"), allow(dead_code))]

use crate::ids::ContextId;
use crate::ids::{CallId, StreamId};
use crate::shell::abi::{ProxyLog, WasmProxy};
use crate::shell::contexts::{Action, Contexts};
use crate::shell::proxy::HeaderMap;
use std::cell::RefCell;

thread_local! {
    /// The contexts of this VM, which has one thread. Each root and stream keeps its own state.
    static CONTEXTS: RefCell<Contexts<WasmProxy>> = const { RefCell::new(Contexts::new(WasmProxy)) };
}

/// Runs `job` on the contexts. Returns `otherwise` if they are in use: if the proxy called back while it is being called. It does so for
/// memory alone, which needs no context.
fn with<T>(otherwise: T, job: impl FnOnce(&mut Contexts<WasmProxy>) -> T) -> T {
    let done = CONTEXTS.try_with(|contexts| contexts.try_borrow_mut().ok().map(|mut contexts| job(&mut contexts)));
    done.ok().flatten().unwrap_or(otherwise)
}

#[cfg(target_os = "wasi")]
unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Called once, before anything else.
#[cfg(target_os = "wasi")]
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the linker makes this function, for this one call.
    unsafe { __wasm_call_ctors() };
}

/// By its presence, the version of the ABI.
#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for what the proxy returns; `shell::abi` takes it over. Null where there is none.
#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut memory: Vec<u8> = Vec::new();
    if memory.try_reserve_exact(size).is_err() {
        return std::ptr::null_mut();
    }
    memory.resize(size, 0);
    Box::into_raw(memory.into_boxed_slice()).cast()
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    with((), |contexts| match parent {
        0 => contexts.on_root_create(ContextId(context)),
        root => contexts.on_stream_create(StreamId(context), ContextId(root)),
    });
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_vm_start(_context: u32, _size: usize) -> bool {
    ProxyLog::install();
    true
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_configure(context: u32, _size: usize) -> bool {
    with(false, |contexts| contexts.on_configure(ContextId(context)))
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_tick(context: u32) {
    with((), |contexts| contexts.on_tick(ContextId(context)));
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_request_headers(context: u32, _lines: usize, _end_of_stream: bool) -> Action {
    with(Action::Continue, |contexts| contexts.on_request_headers(StreamId(context)))
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_request_trailers(context: u32, _lines: usize) -> Action {
    with((), |contexts| contexts.on_trailers(StreamId(context), HeaderMap::RequestTrailers));
    Action::Continue
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_response_headers(context: u32, _lines: usize, _end_of_stream: bool) -> Action {
    with(Action::Continue, |contexts| contexts.on_response_headers(StreamId(context)))
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_response_trailers(context: u32, _lines: usize) -> Action {
    with((), |contexts| contexts.on_trailers(StreamId(context), HeaderMap::ResponseTrailers));
    Action::Continue
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_http_call_response(context: u32, call: u32, lines: usize, body_size: usize, _trailers: usize) {
    with((), |contexts| contexts.on_call_response(ContextId(context), CallId(call), lines, body_size));
}

#[cfg_attr(target_os = "wasi", unsafe(no_mangle))]
extern "C" fn proxy_on_delete(context: u32) {
    with((), |contexts| contexts.on_delete(ContextId(context)));
}
