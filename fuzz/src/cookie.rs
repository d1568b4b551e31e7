//! Cookies: against a naive reading of the same rules, byte by byte.
//!
//! The first line of an input is the cookie's name, or `m` where it is none; the others are the request's `Cookie` lines.

use crate::input::Input;
use mooring::carrier::cookie::{self, Attributes, Removed, SameSite, SetCookie};

/// Checks an input.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let name = input.line();
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let fits = (1..=128).contains(&name.len()) && name.iter().all(token);
    let name = std::str::from_utf8(name).ok().filter(|_| fits).unwrap_or("m");
    while !input.0.is_empty() {
        line(input.line(), name);
    }
}

fn line(line: &[u8], name: &str) {
    let found: Vec<&[u8]> = cookie::values(line, name).collect();
    assert_eq!(found, values(line, name));
    let left = cookie::without(line, name);
    assert_eq!(left, without(line, name));
    if let Removed::Rest(rest) = &left {
        assert!(cookie::values(rest, name).next().is_none(), "ours is gone");
        assert_eq!(cookie::without(rest, name), Removed::Untouched, "once is enough");
        assert_eq!(others(rest, name), others(line, name), "every other cookie stays as it is");
    }
    if let Some(value) = found.first().and_then(|value| std::str::from_utf8(value).ok()) {
        set_cookie(name, value);
    }
}

fn set_cookie(name: &str, value: &str) {
    let path = format!("/{}", value.replace(|c: char| !c.is_ascii_graphic() || c == ';', ""));
    let bit = |at: usize| value.len() >> at & 1 == 1;
    let attributes = Attributes {
        path: path.clone(),
        domain: bit(0).then(|| "example.com".into()),
        secure: bit(1),
        http_only: bit(2),
        same_site: [SameSite::Strict, SameSite::Lax, SameSite::None][value.len() % 3],
        partitioned: bit(3),
    };
    let rendered = SetCookie::new(name, &attributes);
    let value = value.replace(';', "");
    for (line, value, age) in [
        (rendered.issue(&value, None), &*value, None),
        (rendered.issue(&value, Some(60)), &*value, Some("Max-Age=60")),
        (rendered.clear(), "", Some("Max-Age=0")),
    ] {
        let mut parts = line.split("; ");
        assert_eq!(parts.next().and_then(|pair| pair.split_once('=')), Some((name, value)));
        let parts: Vec<&str> = parts.collect();
        assert_eq!(parts.iter().find(|part| part.starts_with("Max-Age")).copied(), age);
        assert!(parts.contains(&&*format!("Path={path}")));
        assert_eq!(parts.contains(&"Domain=example.com"), attributes.domain.is_some());
        for (word, set) in
            [("Secure", attributes.secure), ("HttpOnly", attributes.http_only), ("Partitioned", attributes.partitioned)]
        {
            assert_eq!(parts.iter().filter(|part| **part == word).count(), usize::from(set));
        }
    }
}

/// The pairs of a line, one byte after the other.
fn pairs(line: &[u8]) -> Vec<&[u8]> {
    let mut pairs = Vec::new();
    let mut start = 0;
    for at in 0..line.len() {
        if line[at] == b';' {
            pairs.push(&line[start..at]);
            start = at + 1;
        }
    }
    pairs.push(&line[start..]);
    pairs
}

fn without_space(bytes: &[u8]) -> &[u8] {
    let space = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let Some(start) = bytes.iter().position(|byte| !space(byte)) else { return &[] };
    let end = bytes.iter().rposition(|byte| !space(byte)).unwrap_or(start);
    &bytes[start..=end]
}

/// Where a pair is split into its name and its value: at the first `=`.
fn is_called(pair: &[u8], name: &str) -> bool {
    pair.iter().position(|byte| *byte == b'=').is_some_and(|at| without_space(&pair[..at]) == name.as_bytes())
}

/// The values of the cookies called `name`, without the quotes that enclose one.
pub fn values(line: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for pair in pairs(line).into_iter().filter(|pair| is_called(pair, name)) {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(0);
        let value = without_space(&pair[at + 1..]);
        let quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
        values.push(if quoted { value[1..value.len() - 1].to_vec() } else { value.to_vec() });
    }
    values
}

fn others(line: &[u8], name: &str) -> Vec<Vec<u8>> {
    let others = pairs(line).into_iter().filter(|pair| !is_called(pair, name));
    others.map(|pair| without_space(pair).to_vec()).filter(|pair| !pair.is_empty()).collect()
}

/// What is left of a line: every pair that is not ours, with its own white space but for that at the ends.
pub fn without(line: &[u8], name: &str) -> Removed {
    let all = pairs(line);
    let left: Vec<&[u8]> = all.iter().filter(|pair| !is_called(pair, name)).copied().collect();
    if left.len() == all.len() {
        return Removed::Untouched;
    }
    match without_space(&left.join(&b';')) {
        [] => Removed::Nothing,
        rest => Removed::Rest(rest.to_vec()),
    }
}
