//! Sessions as `benches/proxies/bench/session.lua` has them: a cookie with the host, as the bridge writes it, neither signed nor timed.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

/// Where the bridge looks for the host, and says it.
const HOST: &str = "x-session-host";

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;
struct Stream;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let cookies = self.get_http_request_header("cookie").unwrap_or_default();
        let host = cookies.split(';').find_map(|pair| pair.trim().strip_prefix("sid="));
        if let Some(host) = host {
            self.set_http_request_header(HOST, Some(host));
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some(host) = self.get_http_response_header(HOST) {
            self.set_http_response_header(HOST, None);
            self.add_http_response_header("set-cookie", &format!("sid={host}; Path=/; HttpOnly"));
        }
        Action::Continue
    }
}
