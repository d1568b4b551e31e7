//! Taking our cookie out of a request leaves every other byte, and every line.

use mooring::shell::contexts::Action;
use mooring_test_kit::fake::Line;
use mooring_test_kit::proxy::{Proxy, ROOT, line};
use mooring_test_kit::tokens::{keyring, now, sign, timed};
use mooring_test_kit::world::plugin;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

/// A pair of a `Cookie` line, without the `;` around it.
#[derive(Clone, Debug)]
enum Pair {
    Ours(Vec<u8>),
    Other(Vec<u8>),
}

impl Pair {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ours(bytes) | Self::Other(bytes) => bytes,
        }
    }
}

/// Bytes of a header line (RFC 9110, section 5.5: no CR, LF and NUL) that end no pair.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("cannot stand in a pair", |byte| !b";\0\r\n".contains(byte));
    let likely = prop::sample::select(b"m=\" \t,\xff".to_vec());
    vec(prop_oneof![byte, likely], 0..=most)
}

/// Our cookie, valid or not, with white space wherever it may be.
fn ours() -> impl Strategy<Value = Pair> {
    let token = sign(&timed(now(), now(), now() + 1000), &keyring("m")).into_bytes();
    let value =
        prop_oneof![Just(token.clone()), Just([b"\"", &token[..], b"\""].concat()), bytes(40), Just(Vec::new())];
    let space = || prop::sample::select(vec!["", " ", "\t", " \t "]);
    (space(), space(), value).prop_map(|(before, between, value)| {
        Pair::Ours([before.as_bytes(), b"m", between.as_bytes(), b"=", &value[..]].concat())
    })
}

/// Any other, those among them that look much like ours.
fn other() -> impl Strategy<Value = Pair> {
    let alike = prop::sample::select(vec![
        "",
        " ",
        "m",
        " m ",
        "=m",
        "M=1",
        "mm=1",
        "xm=1",
        "m x=1",
        "\"m\"=1",
        "a=m=1",
        "m,=1",
        " a = \"m=1\" ",
        "=",
    ]);
    let any = bytes(30).prop_filter("would be ours", |bytes| {
        let name = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name: Vec<u8> = name.iter().copied().filter(|byte| !b" \t".contains(byte)).collect();
        name != b"m"
    });
    prop_oneof![alike.prop_map(|text| text.as_bytes().to_vec()), any].prop_map(Pair::Other)
}

fn lines() -> impl Strategy<Value = Vec<Vec<Pair>>> {
    vec(vec(prop_oneof![1 => ours(), 2 => other()], 0..6), 0..5)
}

fn joined<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Vec<u8> {
    pairs.map(Pair::bytes).collect::<Vec<_>>().join(&b';')
}

/// White space at either end of a line is not part of it.
fn trimmed(line: &[u8]) -> Vec<u8> {
    let space = |byte: &u8| b" \t".contains(byte);
    let begin = line.iter().position(|byte| !space(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !space(byte)).map_or(begin, |at| at + 1);
    line[begin..end].to_vec()
}

/// What the upstream gets of these headers.
fn got(forward: bool, headers: Vec<Line>) -> Vec<Line> {
    let cookie = json!({"name": "m", "secure": false, "forward": forward});
    let mut proxy = Proxy::with(&plugin(json!({"cookie": cookie})));
    let (id, action) = proxy.receive(ROOT, headers);
    assert_eq!(action, Action::Continue);
    let state = proxy.host.state();
    let ours = |name: &[u8]| name == b"x-mooring-session" || name == b"x-mooring-host";
    state.streams[&id.into()].request_headers.iter().filter(|(name, _)| !ours(name)).cloned().collect()
}

fn of_name(lines: &[Line], cookies: bool) -> Vec<Line> {
    lines.iter().filter(|(name, _)| (name == b"cookie") == cookies).cloned().collect()
}

/// The request's lines: the cookies, and between them others with the same bytes.
fn request(lines: &[Vec<Pair>]) -> Vec<Line> {
    let mut headers = vec![line(":path", "/")];
    for pairs in lines {
        headers.push(line("cookie", joined(pairs.iter())));
        headers.push(line("x-cookie", joined(pairs.iter())));
    }
    headers
}

proptest! {
    #[test]
    fn without_ours_every_other_byte_and_line_is_left(lines in lines()) {
        let headers = request(&lines);
        let got = got(false, headers.clone());
        let expected: Vec<Line> = lines.iter().filter_map(|pairs| {
            let others: Vec<&Pair> = pairs.iter().filter(|pair| matches!(pair, Pair::Other(_))).collect();
            let left = joined(others.iter().copied());
            if others.len() == pairs.len() {
                return Some(line("cookie", left));
            }
            Some(trimmed(&left)).filter(|left| !left.is_empty()).map(|left| line("cookie", left))
        }).collect();
        prop_assert_eq!(of_name(&got, true), expected);
        prop_assert_eq!(of_name(&got, false), of_name(&headers, false));
    }

    #[test]
    fn where_it_is_forwarded_everything_is_left(lines in lines()) {
        let headers = request(&lines);
        prop_assert_eq!(got(true, headers.clone()), headers);
    }
}
