//! HTTP as it comes: garbage, slow clients, too many of them, TLS, HTTP/2, tokens, and the end of the server.

use crate::stage::{Answer, Engine, Peer, etag, key, peer, send};
use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::servers::eventually;
use mooring_test_kit::servers::store::Store;
use reqwest::Method;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

fn in_memory(arguments: &[&str]) -> Peer {
    peer(&Engine::Memory, arguments)
}

/// How a PUT over HTTP/1.1 begins, up to what says how long its body is.
fn put_head() -> String {
    format!("PUT /v1/sessions/{} HTTP/1.1\r\nhost: x\r\nmooring-ttl: 60\r\nif-none-match: *\r\n", key("k"))
}

fn connect(store: &Peer) -> TcpStream {
    let stream = TcpStream::connect(&store.store.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// Sends bytes on a connection of their own, and reads until the server closes it.
fn raw(store: &Peer, bytes: &[u8]) -> String {
    let mut stream = connect(store);
    // The server may hang up before it has read all of it.
    let _ = stream.write_all(bytes);
    until_closed(stream)
}

fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the server does not hang up: {error}"),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_that_breaks_a_rule_is_refused_with_the_rule() {
    let store = in_memory(&[]);
    let sent = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let request = store.client.request(Method::from_bytes(method.as_bytes()).unwrap(), store.store.url(path));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        send(request.body(body.to_owned())).status
    };
    let (ttl, absent) = (("mooring-ttl", "60"), ("if-none-match", "*"));
    let session = &format!("/v1/sessions/{}", key("k"));
    let (touch, long_key) = (&format!("{session}/touch"), format!("{session}k"));
    for path in [
        "/v1/sessions/",
        "/v1/sessions/a%20b",
        "/v1/sessions/a%2Fb",
        "/v1/sessions/%ff",
        "/v1/sessions/%C3%A9",
        &long_key,
    ] {
        assert_eq!(sent("GET", path, &[], ""), 400, "{path}");
        assert_eq!(sent("PUT", path, &[ttl, absent], "v"), 400, "{path}");
    }
    for value in ["0", "-1", "+1", "1.0", "60s", "", "40000001", "18446744073709551616"] {
        assert_eq!(sent("PUT", session, &[("mooring-ttl", value), absent], "v"), 400, "{value}");
        assert_eq!(sent("DELETE", session, &[("mooring-ttl", value)], ""), 400, "{value}");
        assert_eq!(sent("POST", touch, &[("mooring-ttl", value)], ""), 400, "{value}");
    }
    assert_eq!(sent("PUT", session, &[absent], "v"), 400, "no time to live");
    assert_eq!(sent("PUT", session, &[ttl, ttl, absent], "v"), 400, "two of them");
    assert_eq!(sent("DELETE", session, &[], ""), 400);
    assert_eq!(sent("POST", touch, &[], ""), 400);
    assert_eq!(sent("PUT", session, &[ttl], "v"), 428);
    for condition in
        [("if-match", "*"), ("if-match", "W/\"a\""), ("if-match", "\"a\", \"b\""), ("if-none-match", "\"a\"")]
    {
        assert_eq!(sent("PUT", session, &[ttl, condition], "v"), 400, "{condition:?}");
    }
    assert_eq!(sent("PUT", session, &[ttl, absent, ("if-match", "\"a\"")], "v"), 400);
    for value in ["", "a b", "a\n", "é", "\0"] {
        assert_eq!(sent("PUT", session, &[ttl, absent], value), 400, "{value:?}");
    }
    assert_eq!(sent("PUT", session, &[ttl, absent], &"v".repeat(5000)), 413);
    for (method, path) in [("PATCH", session.as_str()), ("POST", session), ("GET", touch), ("PUT", "/readyz")] {
        assert_eq!(sent(method, path, &[], ""), 405, "{method} {path}");
    }
    for path in ["/", "/v1", "/v1/sessions", "/v1/sessions/a/b", "/v2/sessions/k"] {
        assert_eq!(sent("GET", path, &[], ""), 404, "{path}");
    }
    assert_eq!(store.lookup("k").status, 404, "nothing was written");
}

#[test]
fn bytes_that_are_no_http_and_heads_that_are_too_long_harm_nobody() {
    let store = in_memory(&[]);
    assert!(raw(&store, b"\x16\x03\x01\x02\x00\x01\x00garbage\r\n\r\n").starts_with("HTTP/1.1 400"));
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(1_000_000));
    let answer = raw(&store, long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = (0..1000).map(|n| format!("h{n}: x\r\n")).collect::<String>();
    let answer = raw(&store, format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    // A length that never ends, and two that contradict each other.
    let head = put_head();
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{}",
        "1000\r\n".to_owned() + &"x".repeat(4096) + "\r\n1\r\nx\r\n"
    );
    assert!(raw(&store, chunks.as_bytes()).starts_with("HTTP/1.1 413"));
    let answer = raw(&store, format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxx").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(raw(&store, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").len() < 200);
    assert_eq!(store.get("/healthz").status, 200);
    assert_eq!(store.lookup("k").status, 404);
}

#[test]
fn a_slow_client_is_not_waited_for() {
    let store = in_memory(&["--idle-timeout", "1s"]);
    let silent = connect(&store);
    let mut slow_head = connect(&store);
    slow_head.write_all(b"GET /healthz HTTP/1.1\r\nhost:").unwrap();
    let mut slow_body = connect(&store);
    let head = put_head() + "content-length: 9\r\n\r\n";
    slow_body.write_all(head.as_bytes()).unwrap();
    let mut idle = connect(&store);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(until_closed(silent), "");
    assert_eq!(until_closed(slow_head), "");
    assert!(until_closed(idle).starts_with("HTTP/1.1 200"));
    assert!(until_closed(slow_body).starts_with("HTTP/1.1 408"));
    assert_eq!(store.lookup("k").status, 404);
}

#[test]
fn more_connections_than_allowed_are_closed_at_once() {
    let store = in_memory(&["--max-connections", "3"]);
    // One is the client's own.
    let held = [connect(&store), connect(&store)];
    eventually("them to be open", || (store.metric("mooring_store_connections") == 3.0).then_some(()));
    assert_eq!(raw(&store, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"), "");
    assert_eq!(store.metric("mooring_store_connections_refused_total"), 1.0);
    drop(held);
    eventually("room", || (store.metric("mooring_store_connections") == 1.0).then_some(()));
    let mut next = connect(&store);
    next.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert!(until_closed(next).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_token_is_wanted_where_one_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens").display().to_string();
    std::fs::write(&file, "new-token\n\nold-token\n").unwrap();
    let from_file = Store::start(&["--token-file", &file]);
    let from_environment = Store::with(&[], &[("MOORING_STORE_TOKEN", "new-token")]);
    for (store, old_token) in [(from_file, 404), (from_environment, 401)] {
        let store = Peer::new(store);
        let with = |value: &str| {
            let response = store.client.get(store.session("k")).header("authorization", value).send().unwrap();
            assert_eq!(response.headers()["cache-control"], "no-store");
            let told = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(told.as_deref(), (response.status() == 401).then_some("Bearer"));
            response.status().as_u16()
        };
        assert_eq!(with("Bearer new-token"), 404);
        assert_eq!(with("bearer new-token"), 404);
        assert_eq!(with("Bearer old-token"), old_token);
        for wrong in ["", "Bearer", "Bearer ", "Bearer new-toke", "Bearer new-token1", "Basic new-token", "new-token"] {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        assert_eq!(store.create("k", "v", 60).status, 401);
        assert_eq!(store.revoke("k", 60), 401);
        assert_eq!(send(store.client.patch(store.session("k"))).status, 401);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(store.get(path).status, 200, "{path}");
        }
        assert!(!store.store.log().contains("token"));
    }
}

#[test]
fn http_2_is_spoken_without_tls() {
    let store = in_memory(&[]);
    let client = reqwest::blocking::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let response =
        client.put(store.session("k")).header("if-none-match", "*").header("mooring-ttl", 60).body("v").send();
    let response = response.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str().unwrap()), (201, etag("v").as_str()));
    assert_eq!(client.get(store.session("k")).send().unwrap().text().unwrap(), "v");
    assert_eq!(store.lookup("k").body, "v");
}

/// The status of a request over TLS, with the protocol that was agreed on.
async fn over_tls(store: &Store, ca: &str, alpn: &[&str]) -> Result<(u16, Option<Vec<u8>>), std::io::Error> {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_file_iter(ca).unwrap().for_each(|cert| roots.add(cert.unwrap()).unwrap());
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = tokio::net::TcpStream::connect(&store.address).await?;
    let name = "127.0.0.1".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let io = hyper_util::rt::TokioIo::new(stream);
    let uri = format!("https://{}/healthz", store.address);
    let request =
        hyper::Request::get(uri).header("host", "127.0.0.1").body(http_body_util::Empty::<&[u8]>::new()).unwrap();
    let response = if agreed.as_deref() == Some(b"h2") {
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    Ok((response.status().as_u16(), agreed))
}

#[test]
fn tls_is_spoken_with_either_http() {
    let certificates = Certificates::new();
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| certificates.path(name));
    let store = Store::start(&["--tls-cert", &cert, "--tls-key", &key]);
    Runtime::new().unwrap().block_on(async {
        assert_eq!(over_tls(&store, &ca, &["h2", "http/1.1"]).await.unwrap(), (200, Some(b"h2".to_vec())));
        assert_eq!(over_tls(&store, &ca, &["http/1.1"]).await.unwrap(), (200, Some(b"http/1.1".to_vec())));
        assert_eq!(over_tls(&store, &ca, &[]).await.unwrap(), (200, None));
        assert!(
            over_tls(&store, &Certificates::new().path("ca.pem"), &["h2"]).await.is_err(),
            "a stranger's authority"
        );
    });
    // Who speaks no TLS is not answered in it, and disturbs nobody.
    let store = Peer::new(store);
    assert!(!raw(&store, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").contains("HTTP"));
}

#[test]
fn a_request_under_way_finishes_when_the_server_ends() {
    let mut store = in_memory(&[]);
    let mut under_way = connect(&store);
    let head = put_head() + "content-length: 2\r\n\r\nv";
    under_way.write_all(head.as_bytes()).unwrap();
    let idle = connect(&store);
    eventually("them to be open", || (store.metric("mooring_store_connections") == 3.0).then_some(()));
    // That the head has been read shows nowhere: its bytes came before those of the last question.
    store.store.terminate();
    eventually("no new connection", || TcpStream::connect(&store.store.address).err());
    assert_eq!(until_closed(idle), "", "who asks for nothing is not waited for");
    under_way.write_all(b"w").unwrap();
    assert!(until_closed(under_way).starts_with("HTTP/1.1 201"));
    assert_eq!(store.store.wait().code(), Some(0));
}

#[test]
fn who_never_finishes_holds_the_end_up_for_a_bounded_time() {
    let mut store = in_memory(&["--drain-timeout", "100ms"]);
    let mut under_way = connect(&store);
    let head = put_head() + "content-length: 2\r\n\r\nv";
    under_way.write_all(head.as_bytes()).unwrap();
    store.store.terminate();
    assert_eq!(store.store.wait().code(), Some(0));
    assert_eq!(until_closed(under_way), "");
}

#[test]
fn requests_are_counted_by_operation_and_status() {
    let store = in_memory(&[]);
    store.create("k", "v", 60);
    store.create("k", "v", 60);
    store.move_to("k", "v", "v2", 60);
    store.touch("k", 60);
    store.lookup("k");
    store.revoke("k", 60);
    store.lookup("k");
    let expected = [
        ("create", 201),
        ("create", 412),
        ("move", 204),
        ("touch", 204),
        ("lookup", 200),
        ("revoke", 204),
        ("lookup", 410),
    ];
    for (operation, status) in expected {
        let labels = format!("{{operation=\"{operation}\",status=\"{status}\"}}");
        assert_eq!(store.metric(&format!("mooring_store_requests_total{labels}")), 1.0, "{labels}");
    }
    let duration = "mooring_store_request_duration_seconds_count{operation=\"create\"}";
    assert_eq!(store.metric(duration), 2.0);
    assert_eq!(store.metric("mooring_store_connections"), 1.0);
    assert_eq!(store.metric("mooring_store_tombstones"), 1.0);
    // What is counted under no name is not kept: a key never becomes a label.
    assert!(!store.metrics().contains("sessions/"));
}

#[test]
fn keys_and_values_are_never_logged() {
    let store = in_memory(&["--log-level", "trace", "--log-format", "json"]);
    store.create("a-secret-key", "a-secret-value", 60);
    store.lookup("a-secret-key");
    let log = store.store.log();
    assert!(
        log.lines().count() > 1 && log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{log}"
    );
    assert!(log.contains("create") && !log.contains("a-secret") && !log.contains(&key("a-secret-key")), "{log}");
    assert_eq!(store.lookup("a-secret-key"), Answer::showing(200, "a-secret-value"));
}
