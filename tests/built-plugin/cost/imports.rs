//! What the plugin imports, proxy-wasm ABI 0.2.1 and WASI: each import a call of [`FakeProxy`]. `src/shell/abi.rs` makes them.

use crate::meter;
use crate::plugin::Watch;
use log::Level;
use mooring::headers::Headers;
use mooring::ids::ContextId;
use mooring::shell::proxy::{HeaderMap, MetricId, MetricKind, Proxy, Side, Status};
use mooring_test_kit::fake::FakeProxy;
use std::time::Duration;
use wasmi::{AsContextMut, Caller, Engine, Linker, Memory};

const OK: u32 = 0;

/// A call from the plugin.
struct Call<'a>(Caller<'a, Watch>);

impl Call<'_> {
    fn memory(&self) -> Memory {
        self.0.get_export("memory").and_then(|export| export.into_memory()).expect("a memory")
    }

    fn bytes(&self, at: u32, size: u32) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        self.memory().read(&self.0, at as usize, &mut bytes).expect("within the memory");
        bytes
    }

    fn text(&self, at: u32, size: u32) -> String {
        String::from_utf8(self.bytes(at, size)).expect("text")
    }

    fn path(&self, at: u32, size: u32) -> String {
        self.text(at, size).replace('\0', ".")
    }

    fn headers(&self, at: u32, size: u32) -> Headers {
        Headers::new(self.bytes(at, size)).expect("a serialized map")
    }

    fn write(&mut self, at: u32, bytes: &[u8]) {
        self.memory().write(&mut self.0, at as usize, bytes).expect("within the memory");
    }

    /// Takes the call down. The proxy that answers it.
    fn made(&mut self, call: &str, about: &str) -> FakeProxy {
        let watch = self.0.data_mut();
        let callback = watch.cost.callbacks.last_mut().expect("a callback");
        callback.calls.push(format!("{call} {about}").trim_end().into());
        watch.host.clone()
    }

    /// Writes an answer of a fixed size.
    fn fixed<T>(&mut self, answer: Result<T, Status>, at: u32, bytes: impl FnOnce(T) -> Vec<u8>) -> u32 {
        match answer {
            Ok(value) => {
                self.write(at, &bytes(value));
                OK
            }
            Err(status) => status.0,
        }
    }

    /// Writes an answer into memory that the plugin gives for it, and says where that is.
    fn give(&mut self, answer: Result<Option<Vec<u8>>, Status>, data: u32, size: u32) -> u32 {
        let bytes = match answer {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Status::NOT_FOUND.0,
            Err(status) => return status.0,
        };
        let length = u32::try_from(bytes.len()).expect("no more than fits the memory");
        let mut at = 0;
        // As Envoy: nothing is asked for nothing.
        if length > 0 {
            let allocate = self.0.get_export("proxy_on_memory_allocate").and_then(|export| export.into_func());
            let allocate = allocate.expect("the allocator").typed::<u32, u32>(&self.0).expect("a function of sizes");
            at = allocate.call(self.0.as_context_mut(), length).expect("memory");
            self.0.data_mut().cost.returned += 1;
            self.write(at, &bytes);
        }
        self.write(data, &at.to_le_bytes());
        self.write(size, &length.to_le_bytes());
        OK
    }
}

fn status(answer: Result<(), Status>) -> u32 {
    answer.map_or_else(|status| status.0, |()| OK)
}

/// A map by its number, and what to call it.
fn map(number: u32) -> (HeaderMap, &'static str) {
    let maps = [
        (HeaderMap::RequestHeaders, "request"),
        (HeaderMap::RequestTrailers, "request trailers"),
        (HeaderMap::ResponseHeaders, "response"),
        (HeaderMap::ResponseTrailers, "response trailers"),
        (HeaderMap::CallResponseHeaders, "call"),
    ];
    maps.into_iter().find(|(map, _)| *map as u32 == number).expect("a map that the plugin knows")
}

/// Everything that the plugin imports.
pub fn linker(engine: &Engine) -> Linker<Watch> {
    let mut linker = Linker::new(engine);
    meter(&mut linker);
    headers(&mut linker);
    proxy(&mut linker);
    wasi(&mut linker);
    linker
}

/// Defines imports of `$module`. A name or a value comes as its place and its size.
macro_rules! define {
    ($linker:ident, $module:expr; $($name:literal => |$call:ident $(, $argument:ident: $of:ty)* $(,)?| $body:expr;)*) => {
        $($linker
            .func_wrap($module, $name, |caller: Caller<'_, Watch> $(, $argument: $of)*| -> u32 {
                #[allow(unused_mut)]
                let mut $call = Call(caller);
                $body
            })
            .expect("an import that is not yet there");)*
    };
}

fn meter(linker: &mut Linker<Watch>) {
    linker
        .func_wrap(meter::MODULE, meter::ENTER, |mut caller: Caller<'_, Watch>, function: u32, count: i64| {
            caller.data_mut().enter(function, count);
        })
        .expect("an import that is not yet there");
    linker
        .func_wrap(meter::MODULE, meter::LEAVE, |mut caller: Caller<'_, Watch>, function: u32, count: i64| {
            caller.data_mut().leave(function, count);
        })
        .expect("an import that is not yet there");
    linker
        .func_wrap(meter::MODULE, meter::COPIES, |mut caller: Caller<'_, Watch>, bytes: u32| {
            caller.data_mut().cost.copies += 1;
            caller.data_mut().cost.copied += u64::from(bytes);
            bytes
        })
        .expect("an import that is not yet there");
}

fn headers(linker: &mut Linker<Watch>) {
    define! { linker, "env";
        "proxy_get_header_map_pairs" => |call, of: u32, data: u32, size: u32| {
            let lines = call.made("get_header_map_pairs", map(of).1).headers(map(of).0);
            call.give(lines.map(|lines| Some(lines.as_bytes().into())), data, size)
        };
        "proxy_get_header_map_value" => |call, of: u32, name: u32, name_size: u32, data: u32, size: u32| {
            let name = call.text(name, name_size);
            let value = call.made("get_header_map_value", &name).header(map(of).0, &name);
            call.give(value, data, size)
        };
        "proxy_replace_header_map_value" => |call, of: u32, name: u32, name_size: u32, value: u32, size: u32| {
            let (name, value) = (call.text(name, name_size), call.bytes(value, size));
            status(call.made("replace_header_map_value", &name).set_header(map(of).0, &name, &value))
        };
        "proxy_add_header_map_value" => |call, of: u32, name: u32, name_size: u32, value: u32, size: u32| {
            let (name, value) = (call.text(name, name_size), call.bytes(value, size));
            status(call.made("add_header_map_value", &name).add_header(map(of).0, &name, &value))
        };
        "proxy_remove_header_map_value" => |call, of: u32, name: u32, name_size: u32| {
            let name = call.text(name, name_size);
            status(call.made("remove_header_map_value", &name).remove_header(map(of).0, &name))
        };
    }
}

fn proxy(linker: &mut Linker<Watch>) {
    define! { linker, "env";
        "proxy_log" => |call, level: u32, message: u32, size: u32| {
            let message = call.text(message, size);
            let level = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error][level as usize];
            // What it says has the commit in it.
            call.made("log", level.as_str()).state().log.push((level, message));
            OK
        };
        "proxy_get_current_time_nanoseconds" => |call, at: u32| {
            let now = call.made("get_current_time_nanoseconds", "").now();
            call.fixed(now, at, |now| (now.0 * 1_000_000_000).to_le_bytes().into())
        };
        "proxy_set_tick_period_milliseconds" => |call, period: u32| {
            status(call.made("set_tick_period_milliseconds", "").set_tick_period(period))
        };
        "proxy_get_buffer_bytes" => |call, kind: u32, _start: u32, most: u32, data: u32, size: u32| {
            let bytes = match kind {
                4 => call.made("get_buffer_bytes", "call").call_response_body(most as usize),
                7 => call.made("get_buffer_bytes", "configuration").plugin_configuration(),
                _ => panic!("no buffer that the plugin knows: {kind}"),
            };
            call.give(bytes.map(Some), data, size)
        };
        "proxy_get_property" => |call, path: u32, path_size: u32, data: u32, size: u32| {
            let path = call.path(path, path_size);
            let value = call.made("get_property", &path).property(&[&path]);
            call.give(value, data, size)
        };
        "proxy_set_property" => |call, path: u32, path_size: u32, value: u32, size: u32| {
            let (path, value) = (call.path(path, path_size), call.bytes(value, size));
            status(call.made("set_property", &path).set_property(&[&path], &value))
        };
        "proxy_call_foreign_function" => |
            call, name: u32, name_size: u32, arguments: u32, arguments_size: u32, _data: u32, _size: u32,
        | {
            let (name, arguments) = (call.text(name, name_size), call.bytes(arguments, arguments_size));
            assert_eq!(name, "declare_property");
            let property = arguments.get(2..2 + usize::from(arguments[1])).expect("a name in protobuf").to_vec();
            let property = String::from_utf8(property).expect("text");
            status(call.made("call_foreign_function", &name).declare_request_property(&property))
        };
        "proxy_set_effective_context" => |call, context: u32| {
            status(call.made("set_effective_context", "").act_as(ContextId(context)))
        };
        "proxy_http_call" => |
            call, cluster: u32, cluster_size: u32, lines: u32, lines_size: u32, body: u32, body_size: u32,
            _trailers: u32, _trailers_size: u32, timeout: u32, at: u32,
        | {
            let (cluster, lines) = (call.text(cluster, cluster_size), call.headers(lines, lines_size));
            let (body, timeout) = (call.bytes(body, body_size), Duration::from_millis(timeout.into()));
            let method = lines.values(":method").next().map(String::from_utf8_lossy).expect("a method").into_owned();
            let id = call.made("http_call", &method).call(&cluster, &lines, &body, timeout);
            call.fixed(id, at, |id| id.0.to_le_bytes().into())
        };
        "proxy_continue_stream" => |call, side: u32| {
            let side = if side == Side::Request as u32 { Side::Request } else { Side::Response };
            status(call.made("continue_stream", "").resume(side))
        };
        "proxy_send_local_response" => |
            call, code: u32, details: u32, details_size: u32, body: u32, body_size: u32,
            lines: u32, lines_size: u32, _grpc_status: u32,
        | {
            let (details, body) = (call.text(details, details_size), call.text(body, body_size));
            let lines = call.headers(lines, lines_size);
            status(call.made("send_local_response", &details).respond(code, &details, &lines, &body))
        };
        "proxy_define_metric" => |call, kind: u32, name: u32, name_size: u32, at: u32| {
            let kinds = [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram];
            let kind = kinds.into_iter().find(|known| *known as u32 == kind).expect("a kind of metric");
            let name = call.text(name, name_size);
            let id = call.made("define_metric", "").define_metric(kind, &name);
            call.fixed(id, at, |id| id.0.to_le_bytes().into())
        };
        "proxy_increment_metric" => |call, id: u32, by: i64| {
            status(call.made("increment_metric", "").add_to_metric(MetricId(id), by))
        };
        "proxy_record_metric" => |call, id: u32, value: u64| {
            status(call.made("record_metric", "").record_metric(MetricId(id), value))
        };
    }
}

fn wasi(linker: &mut Linker<Watch>) {
    define! { linker, "wasi_snapshot_preview1";
        "clock_time_get" => |call, clock: u32, _precision: u64, at: u32| {
            assert_eq!(clock, 1, "the monotonic clock: the proxy has the other");
            let now = call.made("clock_time_get", "").monotonic();
            call.fixed(now, at, |now| now.0.as_nanos().to_le_bytes()[..8].into())
        };
        "random_get" => |call, at: u32, size: u32| {
            let mut bytes = vec![0; size as usize];
            let filled = call.made("random_get", "").random(&mut bytes);
            call.fixed(filled, at, |()| bytes)
        };
        // No kind of request needs an environment, a file or an exit.
        "environ_sizes_get" => |call, count: u32, size: u32| {
            assert!(call.made("environ_sizes_get", "").state().environment.is_empty());
            call.write(count, &[0; 4]);
            call.write(size, &[0; 4]);
            OK
        };
        "environ_get" => |call, _variables: u32, _text: u32| {
            call.made("environ_get", "");
            OK
        };
        "fd_write" => |_call, _file: u32, _parts: u32, _count: u32, _written: u32| panic!("the plugin writes to a file");
    }
    linker
        .func_wrap("wasi_snapshot_preview1", "proc_exit", |_: Caller<'_, Watch>, code: u32| -> () {
            panic!("exit {code}")
        })
        .expect("an import that is not yet there");
}
