//! The calls of the proxy-wasm ABI 0.2.1, made directly: a status is a plain number, bytes stay bytes, and every answer has a value
//! (docs/decisions/0006-the-abi-is-called-without-the-sdk.md).
#![allow(unsafe_code)]

use super::proxy::{HeaderMap, MetricId, MetricKind, Proxy, Side, Status};
use crate::clock::{Monotonic, UnixTime};
use crate::headers::Headers;
use crate::ids::CallId;
use crate::ids::ContextId;
use crate::text;
use std::borrow::Cow;
use std::time::Duration;

/// The proxy that this module runs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct WasmProxy;

const OK: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const CALL_RESPONSE_BODY: u32 = 4;
const NO_GRPC_STATUS: i32 = -1;

/// Where the proxy puts what it returns: memory that it got from `proxy_on_memory_allocate`, and its size.
#[repr(C)]
struct Returned {
    data: *mut u8,
    size: usize,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(nanoseconds: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(milliseconds: u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_milliseconds: u32,
        call: *mut u32,
    ) -> u32;
    fn proxy_continue_stream(side: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
}

#[cfg(target_os = "wasi")]
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, nanoseconds: *mut u64) -> u16;
}

fn check(status: u32) -> Result<(), Status> {
    if status == OK { Ok(()) } else { Err(Status(status)) }
}

impl Returned {
    const NOTHING: Self = Self { data: std::ptr::null_mut(), size: 0 };

    /// Takes over what the proxy wrote, if the call succeeded.
    fn take(self, status: u32) -> Result<Vec<u8>, Status> {
        check(status)?;
        if self.data.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: a pointer that the proxy returns with OK comes from `proxy_on_memory_allocate(size)`, which leaks a vector of
        // exactly `size` bytes from this allocator; the proxy has filled them and forgets them.
        Ok(unsafe { Vec::from_raw_parts(self.data, self.size, self.size) })
    }
}

/// Absence is an ordinary answer.
fn optional(returned: Result<Vec<u8>, Status>) -> Result<Option<Vec<u8>>, Status> {
    match returned {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Status::NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

/// The first bytes of a buffer, at most so many.
fn buffer(kind: u32, most: usize) -> Result<Vec<u8>, Status> {
    let mut out = Returned::NOTHING;
    // SAFETY: both pointers are to fields of a local that outlives the call.
    let status = unsafe { proxy_get_buffer_bytes(kind, 0, most, &raw mut out.data, &raw mut out.size) };
    Ok(optional(out.take(status))?.unwrap_or_default())
}

impl Proxy for WasmProxy {
    fn headers(&self, map: HeaderMap) -> Result<Headers, Status> {
        let mut out = Returned::NOTHING;
        // SAFETY: both pointers are to fields of a local that outlives the call.
        let status = unsafe { proxy_get_header_map_pairs(map as u32, &raw mut out.data, &raw mut out.size) };
        Headers::new(out.take(status)?).ok_or(Status::INTERNAL_FAILURE)
    }

    fn header(&self, map: HeaderMap, name: &str) -> Result<Option<Vec<u8>>, Status> {
        let mut out = Returned::NOTHING;
        // SAFETY: the name is borrowed for the call, and both pointers are to fields of a local that outlives it.
        let status = unsafe {
            proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), &raw mut out.data, &raw mut out.size)
        };
        optional(out.take(status))
    }

    fn set_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Status> {
        // SAFETY: name and value are borrowed for the call, which copies them.
        check(unsafe {
            proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        })
    }

    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Status> {
        // SAFETY: name and value are borrowed for the call, which copies them.
        check(unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }

    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), Status> {
        // SAFETY: the name is borrowed for the call.
        check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
    }

    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, Status> {
        let path = text::joined(path, "\0");
        let mut out = Returned::NOTHING;
        // SAFETY: the path is borrowed for the call, and both pointers are to fields of a local that outlives it.
        let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut out.data, &raw mut out.size) };
        optional(out.take(status))
    }

    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status> {
        let path = text::joined(path, "\0");
        // SAFETY: path and value are borrowed for the call, which copies them.
        check(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
    }

    fn declare_request_property(&self, name: &str) -> Result<(), Status> {
        const FUNCTION: &str = "declare_property";
        let arguments = declare_property_arguments(name).ok_or(Status::INTERNAL_FAILURE)?;
        let mut out = Returned::NOTHING;
        // SAFETY: name and arguments are borrowed for the call, and both pointers are to fields of a local that outlives it.
        let status = unsafe {
            proxy_call_foreign_function(
                FUNCTION.as_ptr(),
                FUNCTION.len(),
                arguments.as_ptr(),
                arguments.len(),
                &raw mut out.data,
                &raw mut out.size,
            )
        };
        out.take(status).map(drop)
    }

    fn plugin_configuration(&self) -> Result<Vec<u8>, Status> {
        buffer(PLUGIN_CONFIGURATION, usize::MAX)
    }

    #[allow(clippy::disallowed_methods)]
    fn environment_variable(&self, name: &str) -> Option<Vec<u8>> {
        std::env::var(name).ok().map(String::into_bytes)
    }

    fn now(&self) -> Result<UnixTime, Status> {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        check(unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) })?;
        Ok(UnixTime(Duration::from_nanos(nanoseconds).as_secs()))
    }

    #[cfg(target_os = "wasi")]
    fn monotonic(&self) -> Result<Monotonic, Status> {
        const CLOCK_MONOTONIC: u32 = 1;
        let mut nanoseconds = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        check(unsafe { clock_time_get(CLOCK_MONOTONIC, 0, &raw mut nanoseconds) }.into())?;
        Ok(Monotonic(Duration::from_nanos(nanoseconds)))
    }

    /// Outside the VM there is no proxy and no clock of its.
    #[cfg(not(target_os = "wasi"))]
    fn monotonic(&self) -> Result<Monotonic, Status> {
        Err(Status::INTERNAL_FAILURE)
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), Status> {
        getrandom::fill(buffer).map_err(|_| Status::INTERNAL_FAILURE)
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), Status> {
        // SAFETY: no pointer is passed.
        check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, Status> {
        let mut metric = 0;
        // SAFETY: the name is borrowed for the call, and the pointer is to a local that outlives it.
        check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric) })?;
        Ok(MetricId(metric))
    }

    fn add_to_metric(&self, metric: MetricId, difference: i64) -> Result<(), Status> {
        // SAFETY: no pointer is passed.
        check(unsafe { proxy_increment_metric(metric.0, difference) })
    }

    fn record_metric(&self, metric: MetricId, value: u64) -> Result<(), Status> {
        // SAFETY: no pointer is passed.
        check(unsafe { proxy_record_metric(metric.0, value) })
    }

    fn act_as(&self, context: ContextId) -> Result<(), Status> {
        // SAFETY: no pointer is passed.
        check(unsafe { proxy_set_effective_context(context.0) })
    }

    fn call(&self, cluster: &str, headers: &Headers, body: &[u8], timeout: Duration) -> Result<CallId, Status> {
        let headers = headers.as_bytes();
        let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let mut call = 0;
        // SAFETY: cluster, headers and body are borrowed for the call, which copies them; there are no trailers; the last pointer
        // is to a local that outlives the call.
        check(unsafe {
            proxy_http_call(
                cluster.as_ptr(),
                cluster.len(),
                headers.as_ptr(),
                headers.len(),
                body.as_ptr(),
                body.len(),
                std::ptr::null(),
                0,
                timeout,
                &raw mut call,
            )
        })?;
        Ok(CallId(call))
    }

    fn call_response_body(&self, most: usize) -> Result<Vec<u8>, Status> {
        buffer(CALL_RESPONSE_BODY, most)
    }

    fn resume(&self, side: Side) -> Result<(), Status> {
        // SAFETY: no pointer is passed.
        check(unsafe { proxy_continue_stream(side as u32) })
    }

    fn respond(&self, status: u32, details: &str, headers: &Headers, body: &str) -> Result<(), Status> {
        let headers = headers.as_bytes();
        // SAFETY: details, body and headers are borrowed for the call, which copies them.
        check(unsafe {
            proxy_send_local_response(
                status,
                details.as_ptr(),
                details.len(),
                body.as_ptr(),
                body.len(),
                headers.as_ptr(),
                headers.len(),
                NO_GRPC_STATUS,
            )
        })
    }
}

/// The proxy's log, behind the `log` facade.
pub(super) struct ProxyLog;

impl ProxyLog {
    /// What is logged from here on goes to the proxy.
    pub(super) fn install() {
        // Only the first time; it stays.
        let _ = log::set_logger(&Self);
        log::set_max_level(log::LevelFilter::Info);
    }
}

impl log::Log for ProxyLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // `proxy_log_level_t`.
        let level = match record.level() {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        let message = record.args().as_str().map_or_else(|| record.args().to_string().into(), Cow::Borrowed);
        // SAFETY: the message is borrowed for the call. A log that cannot be written cannot be reported either.
        let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
    }

    fn flush(&self) {}
}

/// Envoy's `envoy.source.extensions.common.wasm.DeclarePropertyArguments` (declare_property.proto), encoded by hand:
/// field 1, `name`; field 5, `span` = 1, `DownstreamRequest`. What is left out is a writable property of bytes.
fn declare_property_arguments(name: &str) -> Option<Vec<u8>> {
    const NAME: u8 = 1 << 3 | 2;
    const SPAN: u8 = 5 << 3;
    let length = u8::try_from(name.len()).ok()?;
    let mut arguments = vec![NAME];
    if length > 0x7f {
        arguments.extend([length, 1]);
    } else {
        arguments.push(length);
    }
    arguments.extend_from_slice(name.as_bytes());
    arguments.extend([SPAN, 1]);
    Some(arguments)
}
