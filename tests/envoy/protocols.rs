//! HTTP/2, WebSocket, streams, trailers, internal redirects: what passes through the filter and keeps its session.

use mooring_test_kit::browser::Browser;
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld, eventually};
use mooring_test_kit::world::{Request, Setup, World};
use reqwest::blocking::Client;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn http2() -> Client {
    Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client")
}

fn default() -> EnvoyWorld {
    EnvoyWorld::start(Setup::with(json!({})))
}

/// Sends bytes on a connection of their own and reads until it is closed.
pub fn raw(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("Envoy");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(bytes).expect("Envoy");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer.escape_ascii().to_string().replace("\\r\\n", "\n")
}

#[test]
fn http_2_requests_keep_their_session_on_one_connection_and_over_several() {
    let mut world = default();
    let client = http2();
    let first = world.send_with(&client, &Request::get("/"));
    let cookie = first.header("set-cookie").concat();
    let pair = cookie.split(';').next().expect("a cookie").to_owned();
    for at in 0..40 {
        let other = if at % 2 == 0 { client.clone() } else { http2() };
        // Crumbs: HTTP/2 clients may send each cookie in a line of its own (RFC 9113, section 8.2.3).
        let crumbs = Request::get("/").header("cookie", "a=1").header("cookie", &pair).header("cookie", "b=2");
        let next = world.send_with(&other, &crumbs);
        assert_eq!((next.host(), next.decision()), (first.host(), "resumed".into()));
        assert_eq!(next.upstream_header("cookie").join("; "), "a=1; b=2");
    }
}

#[test]
fn a_web_socket_reaches_the_session_s_host_and_starts_one_where_there_is_none() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut world = default();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let url = world.url("/ws").replace("http://", "ws://");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        for cookie in [browser.cookie().map(|value| format!("m={value}")), None] {
            let mut request = url.as_str().into_client_request().expect("a request");
            let resumed = cookie.is_some();
            if let Some(cookie) = cookie {
                request.headers_mut().insert("cookie", cookie.parse().expect("a header"));
            }
            let (mut socket, response) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
            assert_eq!(response.status(), 101);
            assert_eq!(response.headers().contains_key("set-cookie"), !resumed);
            let greeting = socket.next().await.expect("a greeting").expect("a message");
            if resumed {
                assert_eq!(greeting.to_text().expect("text"), home);
            }
            for text in ["one", "two"] {
                socket.send(Message::text(text)).await.expect("a connection");
                assert_eq!(socket.next().await.expect("an echo").expect("a message").to_text().expect("text"), text);
            }
        }
    });
}

#[test]
fn a_streamed_response_arrives_whole_and_piece_by_piece() {
    let mut world = default();
    let home = Browser::default().get(&mut world, "/").host().to_owned();
    assert!(!home.is_empty());
    let mut response = Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
        .get(world.url("/?chunks=5&chunk_ms=200"))
        .send()
        .expect("a response");
    assert!(response.headers().contains_key("set-cookie"), "the cookie comes with the headers, ahead of the body");
    let mut pieces = 0;
    let mut body = String::new();
    let mut buffer = [0; 4096];
    loop {
        match response.read(&mut buffer).expect("a body") {
            0 => break,
            read => {
                pieces += 1;
                body.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        }
    }
    assert_eq!(body.lines().count(), 5, "{body}");
    assert!(pieces >= 3, "{pieces} pieces: the filter held the body back");
}

fn with_trailers() -> EnvoyWorld {
    EnvoyWorld::adjusted(&Setup::with(json!({})), Bootstrap::enable_trailers)
}

#[test]
fn internal_headers_do_not_reach_the_upstream_in_trailers_either() {
    let world = with_trailers();
    let trailers = "x-mooring-session: spoofed\r\nx-mooring-action: spoofed\r\nx-mooring-host: spoofed\r\nx-app: 1\r\n";
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n";
    let answer = raw(&world.envoy.address, format!("{head}\r\n1\r\na\r\n0\r\n{trailers}\r\n").as_bytes());
    assert!(answer.contains("x-app"), "the client's own trailers pass: {answer}");
    assert!(!answer.contains("spoofed"), "{answer}");
}

#[test]
fn internal_headers_do_not_reach_the_client_in_trailers_either() {
    let world = with_trailers();
    let path = "/?chunks=1&trailer=x-mooring-action:end&trailer=x-mooring-host:eA==&trailer=x-mooring-session:s&trailer=x-app:1";
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n");
    let answer = raw(&world.envoy.address, request.as_bytes());
    let (head, body) = answer.split_once("\n\n").expect("a body");
    assert!(body.contains("x-app: 1"), "the application's trailers pass: {answer}");
    for name in ["x-mooring-action", "x-mooring-host", "x-mooring-session"] {
        assert!(!body.contains(name), "{name} in {body}");
    }
    assert!(head.contains("x-decision: created"), "a trailer is too late for an action: {head}");
}

#[test]
fn an_internal_redirect_keeps_the_session_of_the_first_pass() {
    let mut world = EnvoyWorld::adjusted(&Setup::with(json!({})), |bootstrap: &mut Bootstrap| {
        let policy = json!({"internal_redirect_policy": {"max_internal_redirects": 3}});
        let redirected = bootstrap.route("/redirected", policy);
        bootstrap.routes().insert(0, redirected);
    });
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    let id = browser.cookie().map(mooring_test_kit::tokens::session).expect("a session").id.to_text();
    let path = format!("/redirected?redirect={}", world.url("/final"));
    for _ in 0..10 {
        let resumed = browser.get(&mut world, &path);
        assert_eq!((resumed.status, resumed.host(), resumed.decision()), (200, home.as_str(), "resumed".into()));
        assert_eq!(resumed.upstream_header("x-mooring-session"), [id.as_str()]);
        assert_eq!(resumed.upstream_header("x-envoy-original-url").len(), 1, "it was redirected");
    }
    let ending = format!("/redirected?redirect={}", world.url("/final?action=end"));
    let ended = browser.get(&mut world, &ending);
    assert_eq!(ended.decision(), "ended");
    assert_eq!(browser.cookie(), None, "the client's cookie goes, though the second pass did not see it");
    let mut fresh = Browser::default();
    let created = fresh.get(&mut world, &path);
    let id = fresh.cookie().map(mooring_test_kit::tokens::session).expect("a session").id.to_text();
    assert_eq!((created.decision(), created.upstream_header("x-mooring-session")), ("created".into(), vec![id]));
    assert_eq!(fresh.get(&mut world, "/").host(), created.host());
}

#[test]
fn a_client_that_leaves_in_the_middle_disturbs_nobody() {
    let mut world = default();
    let mut browser = Browser::default();
    let home = browser.get(&mut world, "/").host().to_owned();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&world.envoy.address).expect("Envoy");
        stream.write_all(b"GET /?delay_ms=2000 HTTP/1.1\r\nhost: a\r\n\r\n").expect("Envoy");
    }
    eventually("Envoy to notice", || {
        (world.envoy.stat("http.http.downstream_rq_active") == 0
            && world.envoy.stat("cluster.app.upstream_rq_cancelled") >= 10)
            .then_some(())
    });
    assert_eq!(browser.get(&mut world, "/").host(), home);
}
