use super::{Command, command};
use axum::Router;
use http_body_util::BodyExt as _;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::future::pending;
use std::io;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, connect};
use upstream::demo::{self, Settings};
use upstream::server;

/// A server at work, by its URL.
async fn upstream() -> (String, JoinHandle<io::Result<()>>) {
    upstream_with(None).await
}

async fn upstream_with(demo: Option<Settings>) -> (String, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let more = |upstream| demo.map_or_else(Router::new, |settings| demo::routes(upstream, settings));
    (url, tokio::spawn(server::serve(listener, "a".into(), more, pending())))
}

const SETTINGS: &str =
    r#"{"hosts": ["a"], "ports": [1], "idle_timeout": 1800, "absolute_timeout": 28800, "back_after": 1}"#;

async fn demo() -> (String, JoinHandle<io::Result<()>>) {
    upstream_with(Some(Settings::parse(SETTINGS).unwrap())).await
}

async fn get(url: String) -> Response {
    reqwest::get(url).await.unwrap()
}

async fn post(url: String) {
    let response = Client::new().post(url).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

fn parse(arguments: &[&str]) -> Result<Command, String> {
    command(arguments.iter().map(|argument| (*argument).to_owned()))
}

#[test]
fn arguments_are_read_and_errors_name_them() {
    let listen = "127.0.0.1:9001".parse().unwrap();
    assert_eq!(parse(&["--listen", "127.0.0.1:9001"]), Ok(Command::Serve { listen, name: None, demo: None }));
    let demo = Some(Settings::parse(SETTINGS).unwrap());
    let named = Command::Serve { listen, name: Some("a".into()), demo };
    assert_eq!(parse(&["--name", "a", "--demo", SETTINGS, "--listen", "127.0.0.1:9001"]), Ok(named));
    assert_eq!(parse(&["--help"]), Ok(Command::Help));
    for (arguments, part) in [
        (&[][..], "--listen is missing"),
        (&["--listen"], "--listen needs a value"),
        (&["--listen", "9001"], "--listen 9001: not an address"),
        (&["--port", "1"], "unknown argument --port"),
        (&["--demo", "yes"], "--demo: expected value"),
        (&["--demo", r#"{"hosts": [], "ports": []}"#], "--demo: idle_timeout: not a number of seconds"),
    ] {
        let message = parse(arguments).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn any_path_shows_the_request_byte_for_byte() {
    let (url, _server) = upstream().await;
    let request = Client::new()
        .put(format!("{url}/some/path?x=%20"))
        .header("cookie", b"a=\xff".as_slice())
        .header("x-twice", "1")
        .header("x-twice", "2")
        .body("four");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-served-by"], "a");
    let shown: Value = response.json().await.unwrap();
    assert_eq!(shown["name"], "a");
    assert_eq!(format!("http://{}", shown["address"].as_str().unwrap()), url);
    assert_eq!((&shown["method"], &shown["path"]), (&json!("PUT"), &json!("/some/path?x=%20")));
    assert_eq!(shown["body_bytes"], 4);
    let headers = shown["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["cookie", "a=\\xff"])));
    let twice: Vec<&Value> = headers.iter().filter(|line| line[0] == "x-twice").map(|line| &line[1]).collect();
    assert_eq!(twice, ["1", "2"]);
}

#[tokio::test]
async fn the_query_shapes_the_answer() {
    let (url, _server) = upstream().await;
    let query =
        "status=418&action=rotate&header=set-cookie:a=1&header=set-cookie:b%3d%ff&chunks=2&chunk_ms=1&delay_ms=1";
    let response = get(format!("{url}/?{query}")).await;
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers()["x-mooring-action"], "rotate");
    let cookies: Vec<&[u8]> = response.headers().get_all("set-cookie").iter().map(|line| line.as_bytes()).collect();
    assert_eq!(cookies, [b"a=1".as_slice(), b"b=\xff"]);
    assert_eq!(response.text().await.unwrap(), "line 1 of 2 from a\nline 2 of 2 from a\n");
}

#[tokio::test]
async fn a_query_that_cannot_be_met_is_refused_with_the_reason() {
    let (url, _server) = upstream().await;
    for query in ["status=99", "status=x", "header=none", "header=a:b%0ac", "delay_ms=-1", "chunks=", "redirect=%0d"] {
        let response = get(format!("{url}/?{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert!(response.text().await.unwrap().contains("accepted is"), "{query}");
    }
}

#[tokio::test]
async fn trailers_reach_clients_of_both_protocols() {
    let (url, _server) = upstream().await;
    for client in [Client::builder(), Client::builder().http2_prior_knowledge()] {
        let request =
            client.build().unwrap().get(format!("{url}/?trailer=x-mooring-action:end")).header("te", "trailers");
        let response: axum::http::Response<reqwest::Body> = request.send().await.unwrap().into();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-mooring-action"], "end");
        let shown: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(shown["name"], "a");
    }
}

#[tokio::test]
async fn a_reset_leaves_the_request_without_an_answer_and_the_server_well() {
    let (url, _server) = upstream().await;
    for client in [Client::builder(), Client::builder().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        let error = client.get(format!("{url}/?reset=1")).send().await.unwrap_err();
        assert!(error.is_request(), "{error:?}");
        assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn health_fails_on_request() {
    let (url, _server) = upstream().await;
    assert_eq!(get(format!("{url}/health")).await.status(), StatusCode::OK);
    post(format!("{url}/control/health/fail")).await;
    let response = get(format!("{url}/health")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!response.headers().contains_key("x-mooring-action"));
    post(format!("{url}/control/health/pass")).await;
    assert_eq!(get(format!("{url}/health")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_draining_server_releases_its_sessions() {
    let (url, _server) = upstream().await;
    post(format!("{url}/control/drain")).await;
    assert_eq!(get(format!("{url}/health")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(url.clone()).await.headers()["x-mooring-action"], "release");
    let logout = get(format!("{url}/?action=end")).await;
    assert_eq!(logout.headers().get_all("x-mooring-action").iter().collect::<Vec<_>>(), ["end"]);
    post(format!("{url}/control/undrain")).await;
    assert!(!get(url).await.headers().contains_key("x-mooring-action"));
}

#[tokio::test]
async fn controls_take_post_alone_and_unknown_ones_do_not_exist() {
    let (url, _server) = upstream().await;
    assert_eq!(get(format!("{url}/control/stop")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(get(format!("{url}/control/dance")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn stop_answers_and_ends_the_server() {
    let (url, server) = upstream().await;
    post(format!("{url}/control/stop")).await;
    server.await.unwrap().unwrap();
    assert!(reqwest::get(url).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn the_web_socket_greets_and_echoes() {
    let (url, _server) = upstream().await;
    let client = tokio::task::spawn_blocking(move || {
        let (mut socket, response) = connect(format!("{}/ws", url.replace("http", "ws"))).unwrap();
        assert_eq!(response.headers()["x-served-by"], "a");
        assert_eq!(socket.read().unwrap(), Message::text("a"));
        socket.send(Message::binary(vec![0, 255])).unwrap();
        assert_eq!(socket.read().unwrap(), Message::binary(vec![0, 255]));
    });
    client.await.unwrap();
}

async fn get_accepting(url: &str, accepted: &str) -> Response {
    Client::new().get(url).header("accept", accepted).send().await.unwrap()
}

#[tokio::test]
async fn the_page_is_for_browsers_and_for_the_demo_alone() {
    let browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    let (url, _server) = demo().await;
    let page = get_accepting(&url, browser).await;
    assert_eq!(page.headers()["vary"], "accept");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none';"));
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
    for (path, accepted) in [("/", "*/*"), ("/?status=200", browser), ("/other", browser)] {
        let shown: Value = get_accepting(&format!("{url}{path}"), accepted).await.json().await.unwrap();
        assert_eq!((&shown["name"], &shown["path"]), (&json!("a"), &json!(path)));
    }
    let (url, _server) = upstream().await;
    for path in ["/", "/demo/session"] {
        let shown: Value = get_accepting(&format!("{url}{path}"), browser).await.json().await.unwrap();
        assert_eq!(shown["path"], path);
    }
}

#[tokio::test]
async fn the_page_is_told_what_the_host_remembers_of_the_session() {
    let (url, _server) = demo().await;
    let ask = async |id: &'static str| {
        let request = Client::new().get(format!("{url}/demo/session")).header("x-mooring-session", id);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let first = ask("first-session").await;
    assert_eq!((&first["host"], &first["session"], &first["requests"]), (&json!("a"), &json!("first-"), &json!(1)));
    assert_eq!(first["settings"], serde_json::from_str::<Value>(SETTINGS).unwrap());
    assert_eq!(ask("first-session").await["requests"], 2);
    assert_eq!(ask("other").await["requests"], 1);
}

#[tokio::test]
async fn the_page_s_buttons_speak_for_the_application() {
    let (url, _server) = demo().await;
    for (path, action) in [("login", "rotate"), ("logout", "end"), ("drain", "release")] {
        let response = Client::new().post(format!("{url}/demo/{path}")).send().await.unwrap();
        assert_eq!(response.headers()["x-mooring-action"], action);
        assert_eq!(response.json::<Value>().await.unwrap()["draining"], path == "drain");
    }
    let healthy = async {
        while get(format!("{url}/health")).await.status() != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), healthy).await.expect("it drains no longer");
}

#[tokio::test]
async fn pages_of_other_sites_cannot_press_the_buttons() {
    let (url, _server) = demo().await;
    for button in ["demo/login", "demo/logout", "demo/drain", "demo/kill", "control/stop", "control/drain"] {
        for site in ["cross-site", "same-site", "none"] {
            let request = Client::new().post(format!("{url}/{button}")).header("sec-fetch-site", site);
            assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{button} from {site}");
        }
    }
    assert_eq!(get(format!("{url}/health")).await.status(), StatusCode::OK, "drained or killed");
}
