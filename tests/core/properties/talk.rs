//! What proxies and the store's model say to each other.

use mooring::store::protocol::Answer;
use mooring::store::protocol::model::Model;
use mooring_test_kit::fake::Sent;
use mooring_test_kit::proxy::{Proxy, line};

/// A call comes back with this answer.
pub fn give(proxy: &mut Proxy, call: &Sent, answer: Answer) {
    match answer {
        Answer::Response { status, etag, body } => {
            let etag = etag.map(|etag| line("etag", etag));
            proxy.give(call, Some(line(":status", status.to_string())).into_iter().chain(etag).collect(), body);
        }
        Answer::Overloaded => {
            let lines = [line(":status", "503"), line("x-envoy-overloaded", "true")];
            proxy.give(call, lines.into_iter().collect(), Vec::new());
        }
        Answer::Nothing | Answer::TooLarge => proxy.give(call, Vec::new(), Vec::new()),
    }
}

/// Lets the store answer until nothing is asked any more.
pub fn talk(proxy: &mut Proxy, store: &mut Model) {
    loop {
        let sent = proxy.sent();
        if sent.is_empty() {
            return;
        }
        for call in sent {
            let answer = store.serve(&call.headers, &call.body);
            give(proxy, &call, answer);
        }
    }
}
