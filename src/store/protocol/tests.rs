//! Each protocol's exact requests, and the answers of the real servers to them, as they were recorded: webdis 0.1.22 and
//! `@humanwhocodes/upstash-redis-server` 1.0.0 over Redis 7.0.15.

use super::*;
use crate::config::AccessToken;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const VALUE: &str = "v1.2026-11.AAECAwQ.Tb_-0123456789abcdefghijklmnopqrstuvwxyzABC";
const OTHER: &str = "v1.2026-12.BBECAwQ.Ub_-0123456789abcdefghijklmnopqrstuvwxyzABC";
const TAG: &str = "Tb_-0123456789abcdefghijklmnopqrstuvwxyzABC";

fn key() -> StoreKey {
    StoreKey("mooring:AbC_-fghijklmnopqrstuvwxyz0123456789ABCDEFG".into())
}

fn version(text: &str) -> Version {
    Version::new(text.as_bytes()).unwrap()
}

fn endpoint(protocol: Protocol, token: Option<&[u8]>) -> Endpoint {
    Endpoint {
        protocol,
        cluster: "session_store".into(),
        authority: "store.example".into(),
        token: token.and_then(AccessToken::new),
        namespace: "mooring".into(),
        timeout: Duration::from_millis(100),
    }
}

/// A lookup, a create, a move, a touch and a revoke.
fn commands(expected: &str) -> [Command; 5] {
    [
        Command::Lookup,
        Command::Create { value: VALUE.into(), ttl: 60 },
        Command::Move { expected: version(expected), value: OTHER.into(), ttl: 60 },
        Command::Touch { ttl: 60 },
        Command::Revoke { tombstone: OTHER.into(), ttl: 60 },
    ]
}

/// A request as text: header lines, an empty line, the body.
fn text(request: &Request) -> String {
    let lines: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{lines}\n{}", request.body)
}

fn requests(endpoint: &Endpoint, expected: &str) -> [String; 5] {
    commands(expected).map(|command| text(&endpoint.request(&key(), &command)))
}

#[test]
fn a_key_tells_nothing_of_the_session_and_is_one_for_each_scope_and_namespace() {
    let id = SessionId([7; 16]);
    let key = StoreKey::of(&id, "shop", "mooring");
    // printf 'mooring/1/store-key\0\4shop\7\7\7\7\7\7\7\7\7\7\7\7\7\7\7\7' | openssl dgst -sha256 -binary | basenc --base64url
    assert_eq!(key.as_str(), "mooring:2QJcC0VzXG5osgV1YTmRHrW4lUAck5ol8n71CrH0Dhg");
    assert_ne!(key, StoreKey::of(&SessionId([8; 16]), "shop", "mooring"));
    assert_ne!(key, StoreKey::of(&id, "shop2", "mooring"));
    assert_eq!(
        StoreKey::of(&id, "shop", "other").as_str().strip_prefix("other:"),
        key.as_str().strip_prefix("mooring:")
    );
}

#[test]
fn rest_requests_are_those_of_the_contract() {
    let head = |method: &str, more: &str| {
        format!(
            ":method: {method}\n:path: /v1/sessions/mooring:AbC_-fghijklmnopqrstuvwxyz0123456789ABCDEFG{more}\n\
             :authority: store.example\nauthorization: Bearer tok-1\n"
        )
    };
    assert_eq!(
        requests(&endpoint(Protocol::Rest, Some(b"tok-1")), "\"e1\""),
        [
            format!("{}\n", head("GET", "")),
            format!("{}if-none-match: *\nmooring-ttl: 60\ncontent-type: text/plain\n\n{VALUE}", head("PUT", "")),
            format!("{}if-match: \"e1\"\nmooring-ttl: 60\ncontent-type: text/plain\n\n{OTHER}", head("PUT", "")),
            format!("{}mooring-ttl: 60\n\n", head("POST", "/touch")),
            format!("{}mooring-ttl: 60\n\n", head("DELETE", "")),
        ]
    );
    let open = requests(&endpoint(Protocol::Rest, None), "\"e1\"");
    assert!(open.iter().all(|request| !request.contains("authorization")));
}

#[test]
fn webdis_requests_have_their_words_between_slashes_and_everything_else_encoded() {
    const KEY: &str = "mooring%3AAbC_-fghijklmnopqrstuvwxyz0123456789ABCDEFG";
    const V: &str = "v1%2E2026-11%2EAAECAwQ%2ETb_-0123456789abcdefghijklmnopqrstuvwxyzABC";
    const O: &str = "v1%2E2026-12%2EBBECAwQ%2EUb_-0123456789abcdefghijklmnopqrstuvwxyzABC";
    let head = ":method: POST\n:path: /\n:authority: store.example\nauthorization: Basic bWU6c2VjcmV0\n\n";
    let [lookup, create, moved, touch, revoke] = requests(&endpoint(Protocol::Webdis, Some(b"me:secret")), TAG);
    assert_eq!(lookup, format!("{head}GET/{KEY}"));
    assert_eq!(
        create,
        format!(
            "{head}EVAL/local%20v%3Dredis%2Ecall%28%27GET%27%2CKEYS%5B1%5D%29%20if%20v%20then%20return%20v%20end%20\
             redis%2Ecall%28%27SET%27%2CKEYS%5B1%5D%2CARGV%5B1%5D%2C%27EX%27%2CARGV%5B2%5D%29%20return%201/1/{KEY}/{V}/60"
        )
    );
    assert_eq!(
        moved,
        format!(
            "{head}EVAL/local%20v%3Dredis%2Ecall%28%27GET%27%2CKEYS%5B1%5D%29%20if%20v%20and%20string%2Esub%28v%2C-43%29%3D%3D\
             ARGV%5B1%5D%20then%20redis%2Ecall%28%27SET%27%2CKEYS%5B1%5D%2CARGV%5B2%5D%2C%27EX%27%2CARGV%5B3%5D%29%20return%201\
             %20end%20return%20v/1/{KEY}/{TAG}/{O}/60"
        )
    );
    assert_eq!(
        touch,
        format!(
            "{head}EVAL/local%20v%3Dredis%2Ecall%28%27GET%27%2CKEYS%5B1%5D%29%20if%20v%20and%20redis%2Ecall%28%27TTL%27%2CKEYS\
             %5B1%5D%29%3Ctonumber%28ARGV%5B1%5D%29%20then%20redis%2Ecall%28%27EXPIRE%27%2CKEYS%5B1%5D%2CARGV%5B1%5D%29%20end\
             %20return%20v/1/{KEY}/60"
        )
    );
    assert_eq!(revoke, format!("{head}SET/{KEY}/{O}/EX/60"));
}

#[test]
fn upstash_requests_are_json_arrays() {
    const KEY: &str = "mooring:AbC_-fghijklmnopqrstuvwxyz0123456789ABCDEFG";
    let head = ":method: POST\n:path: /\n:authority: store.example\nauthorization: Bearer tok-1\n\
                content-type: application/json\n\n";
    let [lookup, create, moved, touch, revoke] = requests(&endpoint(Protocol::Upstash, Some(b"tok-1")), TAG);
    assert_eq!(lookup, format!(r#"{head}["GET","{KEY}"]"#));
    assert_eq!(
        create,
        format!(
            r#"{head}["EVAL","local v=redis.call('GET',KEYS[1]) if v then return v end redis.call('SET',KEYS[1],ARGV[1],'EX',ARGV[2]) return 1","1","{KEY}","{VALUE}","60"]"#
        )
    );
    assert_eq!(
        moved,
        format!(
            r#"{head}["EVAL","local v=redis.call('GET',KEYS[1]) if v and string.sub(v,-43)==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2],'EX',ARGV[3]) return 1 end return v","1","{KEY}","{TAG}","{OTHER}","60"]"#
        )
    );
    assert_eq!(
        touch,
        format!(
            r#"{head}["EVAL","local v=redis.call('GET',KEYS[1]) if v and redis.call('TTL',KEYS[1])<tonumber(ARGV[1]) then redis.call('EXPIRE',KEYS[1],ARGV[1]) end return v","1","{KEY}","60"]"#
        )
    );
    assert_eq!(revoke, format!(r#"{head}["SET","{KEY}","{OTHER}","EX","60"]"#));
}

/// What each of the five commands makes of an answer.
fn replies(protocol: Protocol, status: u16, etag: Option<&str>, body: &str) -> [Result<Reply, Failure>; 5] {
    commands(if protocol == Protocol::Rest { "\"e1\"" } else { TAG }).map(|command| {
        let etag = etag.map(|etag| etag.as_bytes().to_vec());
        endpoint(protocol, None).reply(&command, Answer::Response { status, etag, body: body.into() })
    })
}

fn value(text: &str, at: &str) -> Result<Reply, Failure> {
    Ok(Reply::Value(text.into(), version(at)))
}

const SENSELESS: Result<Reply, Failure> = Err(Failure::Senseless);
const REFUSED: Result<Reply, Failure> = Err(Failure::Refused);
const MISSING: Result<Reply, Failure> = Ok(Reply::Missing);
const REVOKED: Result<Reply, Failure> = Ok(Reply::Revoked);
const DONE: Result<Reply, Failure> = Ok(Reply::Done(None));

#[test]
fn rest_answers_are_read_as_the_contract_says() {
    use crate::config::Protocol::Rest;
    let done = Ok(Reply::Done(Some(version("\"e2\""))));
    let there = || value(VALUE, "\"e2\"");
    let e2 = Some("\"e2\"");
    assert_eq!(replies(Rest, 200, e2, VALUE), [there(), done.clone(), done.clone(), DONE, DONE]);
    assert_eq!(replies(Rest, 201, e2, ""), [SENSELESS, done.clone(), done.clone(), SENSELESS, SENSELESS]);
    assert_eq!(replies(Rest, 204, e2, ""), [SENSELESS, done.clone(), done, DONE, DONE]);
    assert_eq!(replies(Rest, 404, None, "no such session\n"), [MISSING, REFUSED, REFUSED, MISSING, REFUSED]);
    assert_eq!(replies(Rest, 410, None, "revoked\n"), [(); 5].map(|()| REVOKED));
    assert_eq!(replies(Rest, 412, e2, VALUE), [REFUSED, there(), there(), REFUSED, REFUSED]);
    let nothing_there = replies(Rest, 412, None, "");
    assert_eq!(nothing_there, [REFUSED, SENSELESS, MISSING, REFUSED, REFUSED]);
    for status in [300, 302, 400, 401, 403, 405, 413, 428, 429, 499] {
        assert_eq!(replies(Rest, status, e2, VALUE), [(); 5].map(|()| REFUSED), "{status}");
    }
    for status in [500, 502, 503, 504, 599] {
        assert_eq!(replies(Rest, status, e2, VALUE), [(); 5].map(|()| Err(Failure::Unavailable)), "{status}");
    }
    for status in [0, 100, 202, 206] {
        assert_eq!(replies(Rest, status, e2, VALUE), [(); 5].map(|()| SENSELESS), "{status}");
    }
    let long = format!("\"{}\"", "e".repeat(MAX_VERSION));
    for etag in [None, Some(""), Some("\"a b\""), Some(long.as_str())] {
        assert_eq!(replies(Rest, 200, etag, VALUE), [SENSELESS, SENSELESS, SENSELESS, DONE, DONE], "{etag:?}");
    }
}

#[test]
fn webdis_answers_are_read_as_they_were_recorded() {
    use crate::config::Protocol::Webdis;
    let done = |value: &str| Ok(Reply::Done(version(value.rsplit('.').next().unwrap()).into()));
    let there = || value(VALUE, TAG);
    let eval = |body: &str| replies(Webdis, 200, Some("\"x\""), body);
    assert_eq!(eval(r#"{"GET":null}"#), [MISSING, SENSELESS, SENSELESS, SENSELESS, SENSELESS]);
    assert_eq!(
        eval(&format!(r#"{{"GET":"{VALUE}"}}"#)),
        [there(), SENSELESS, SENSELESS, SENSELESS, SENSELESS],
        "what is there"
    );
    assert_eq!(eval(r#"{"EVAL":1}"#), [SENSELESS, done(VALUE), done(OTHER), SENSELESS, SENSELESS]);
    assert_eq!(
        eval(&format!(r#"{{"EVAL":"{VALUE}"}}"#)),
        [SENSELESS, there(), there(), there(), SENSELESS],
        "what is there instead"
    );
    assert_eq!(eval(r#"{"EVAL":null}"#), [SENSELESS, SENSELESS, MISSING, MISSING, SENSELESS]);
    assert_eq!(eval(r#"{"SET":[true,"OK"]}"#), [SENSELESS, SENSELESS, SENSELESS, SENSELESS, DONE]);
    for error in [
        "NOAUTH Authentication required.",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MOVED 3999 127.0.0.1:7001",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ] {
        assert_eq!(eval(&format!(r#"{{"GET":[false,"{error}"]}}"#))[0], REFUSED);
        assert_eq!(eval(&format!(r#"{{"SET":[false,"{error}"]}}"#))[4], REFUSED);
        let [_, create, moved, touch, _] = eval(&format!(r#"{{"EVAL":[false,"{error}"]}}"#));
        assert_eq!([create, moved, touch], [REFUSED, REFUSED, REFUSED]);
    }
    assert_eq!(replies(Webdis, 503, None, ""), [(); 5].map(|()| Err(Failure::Unavailable)), "Redis is gone");
    for status in [400, 403, 405] {
        assert_eq!(replies(Webdis, status, None, ""), [(); 5].map(|()| REFUSED));
    }
    assert_eq!(eval("{}"), [(); 5].map(|()| SENSELESS), "a value that is no UTF-8");
}

#[test]
fn upstash_answers_are_read_as_they_were_recorded() {
    use crate::config::Protocol::Upstash;
    let done = |value: &str| Ok(Reply::Done(version(value.rsplit('.').next().unwrap()).into()));
    let there = || value(VALUE, TAG);
    let ok = |body: &str| replies(Upstash, 200, None, body);
    assert_eq!(ok(r#"{"result":null}"#), [MISSING, SENSELESS, MISSING, MISSING, SENSELESS]);
    assert_eq!(ok(&format!(r#"{{"result":"{VALUE}"}}"#)), [there(), there(), there(), there(), SENSELESS]);
    assert_eq!(ok(r#"{"result":1}"#), [SENSELESS, done(VALUE), done(OTHER), SENSELESS, SENSELESS]);
    assert_eq!(ok(r#"{ "result": "OK" }"#)[4], DONE, "blanks do not matter");
    // Upstash answers errors with 400; the server for tests with 500, text or JSON.
    assert_eq!(replies(Upstash, 400, None, r#"{"error":"ERR syntax error"}"#), [(); 5].map(|()| REFUSED));
    assert_eq!(replies(Upstash, 401, None, "Unauthorized"), [(); 5].map(|()| REFUSED));
    assert_eq!(ok(r#"{"error":"READONLY"}"#), [(); 5].map(|()| REFUSED));
    let failed = r#"{"error":"Failed to execute Redis command: READONLY"}"#;
    assert_eq!(replies(Upstash, 500, None, failed), [(); 5].map(|()| Err(Failure::Unavailable)));
}

#[test]
fn whatever_else_a_gateway_says_is_senseless() {
    for protocol in [Protocol::Webdis, Protocol::Upstash] {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "<html>",
            "{\"result\":",
            "\u{0}",
            r#"{"result":[]}"#,
            r#"{"result":2}"#,
            r#"{"result":true}"#,
            r#"{"result":{"a":1}}"#,
            r#"{"result":null,"result":null}"#,
            r#"{"result":null,"error":null}"#,
            r#"{"GET":[true,"OK"]}"#,
            r#"{"GET":[true]}"#,
            r#"{"GET":[]}"#,
            r#"{"GET":7}"#,
            r#"{"EVAL":[true,"OK"]}"#,
            r#"{"SET":[true,"QUEUED"]}"#,
            r#"{"SET":true}"#,
            r#"{"get":null}"#,
            r#"{"GET":null,"GET":null}"#,
        ] {
            assert_eq!(replies(protocol, 200, None, body), [(); 5].map(|()| SENSELESS), "{protocol:?} {body}");
        }
        let deep = "[".repeat(2000);
        assert_eq!(replies(protocol, 200, None, &deep), [(); 5].map(|()| SENSELESS));
    }
}

#[test]
fn a_tombstone_of_mooring_store_is_one_to_the_gateways_too() {
    assert_eq!(replies(Protocol::Webdis, 200, None, r#"{"GET":""}"#)[0], REVOKED);
    let [_, create, moved, touch, _] = replies(Protocol::Webdis, 200, None, r#"{"EVAL":""}"#);
    assert_eq!([create, moved, touch], [REVOKED, REVOKED, REVOKED]);
    let [lookup, create, moved, touch, revoke] = replies(Protocol::Upstash, 200, None, r#"{"result":""}"#);
    assert_eq!([lookup, create, moved, touch, revoke], [REVOKED, REVOKED, REVOKED, REVOKED, SENSELESS]);
}

#[test]
fn what_stands_there_and_has_no_tag_is_handed_on_to_be_refused() {
    let [lookup, ..] = replies(Protocol::Upstash, 200, None, r#"{"result":"rubbish"}"#);
    assert_eq!(lookup, Ok(Reply::Value("rubbish".into(), Version::OfNothing)));
}

#[test]
fn no_answer_and_one_that_is_too_long_are_failures() {
    let endpoint = endpoint(Protocol::Rest, None);
    assert_eq!(endpoint.reply(&Command::Lookup, Answer::Nothing), Err(Failure::Unavailable));
    assert_eq!(endpoint.reply(&Command::Lookup, Answer::TooLarge), Err(Failure::TooLarge));
}

#[test]
fn a_token_is_not_shown_and_keeps_its_rules() {
    assert!(!format!("{:?}", endpoint(Protocol::Rest, Some(b"tok-1"))).contains("tok-1"));
    for bad in [&b""[..], b"a b", b"a\n", b"\xff", &[b'x'; 1025]] {
        assert_eq!(AccessToken::new(bad), None);
    }
    assert!(AccessToken::new(&[b'x'; 1024]).is_some());
    for (token, basic) in [("user:password", true), ("password", false), (&format!("u:{}", "p".repeat(52)), false)] {
        assert_eq!(AccessToken::new(token.as_bytes()).unwrap().is_basic(), basic, "{token}");
    }
    assert!(AccessToken::new(format!("u:{}", "p".repeat(51)).as_bytes()).unwrap().is_basic());
}
