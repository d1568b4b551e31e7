//! The SDK's side: its dispatcher calls these contexts. They hand everything to [`crate::filter`].

use crate::filter::{HttpFilter, RootFilter};
use crate::host::Map;
use crate::host::proxy::Proxy;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

#[cfg(target_os = "wasi")]
proxy_wasm::main! {{
    proxy_wasm::set_root_context(root);
}}

/// The root context that the dispatcher asks for.
#[cfg_attr(not(target_os = "wasi"), allow(dead_code))]
fn root(_context_id: u32) -> Box<dyn RootContext> {
    Box::new(Root(RootFilter::new(Proxy)))
}

struct Root(RootFilter<Proxy>);

impl Context for Root {
    fn on_done(&mut self) -> bool {
        self.0.on_done();
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        self.0.on_configure()
    }

    fn on_tick(&mut self) {
        self.0.on_tick();
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http(self.0.http_filter())))
    }
}

struct Http(HttpFilter<Proxy>);

impl Context for Http {
    fn on_done(&mut self) -> bool {
        self.0.on_done();
        true
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        self.0.on_request_headers();
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        self.0.on_trailers(Map::RequestTrailers);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        self.0.on_response_headers();
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        self.0.on_trailers(Map::ResponseTrailers);
        Action::Continue
    }
}
