//! Requests that nobody should send, each with what must become of it.

use super::upstream::{NAMES, SPOOF, SPOOFED_HOST};
use fastrand::Rng;
use mooring::credential::token::{self, Protection, Refusal};
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring_test_kit::tokens;

/// A request.
pub struct Case {
    pub method: String,
    pub path: Vec<u8>,
    /// In the order in which they are sent, beside those that say how the body comes.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub expected: Expected,
}

/// What must become of it, if it is answered.
#[derive(Clone, Default)]
pub struct Expected {
    /// The host of the session that it brings, by its name.
    pub home: Option<&'static str>,
    /// One for each token that is refused; `None` where more than one reason would do.
    pub refused: Vec<Option<Refusal>>,
    /// HTTP or Envoy's configuration forbids it: it may be answered with a 4xx.
    pub odd: bool,
    /// It goes to a host that may answer anything.
    pub to_hostile_host: bool,
}

/// Tokens to make cookies of.
pub struct Tokens {
    /// With the host of each.
    good: Vec<(String, &'static str)>,
    /// Of sessions that hostile hosts may end.
    expendable: Vec<String>,
    bad: Vec<(String, Refusal)>,
    noise: Noise,
}

impl Tokens {
    /// For a cluster `app` with these hosts.
    pub fn new(rng: &mut Rng, addresses: &[String]) -> Self {
        let ours = tokens::keyring("m");
        let now = tokens::now();
        let session = |rng: &mut Rng, at: usize, created: u64, end: u64| {
            let mut session =
                Session { id: SessionId(rng.u128(..).to_be_bytes()), ..tokens::timed(created, created, end) };
            let host = HostAddr::parse(addresses[at].as_bytes()).expect("an address");
            session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
            session
        };
        let seal = |rng: &mut Rng, session: &Session| {
            let nonce = std::array::from_fn(|_| rng.u8(..));
            let protection = if rng.bool() { Protection::Signed } else { Protection::Encrypted { nonce } };
            token::seal(session, &ours, &protection)
        };
        let fresh = |rng: &mut Rng, at: usize| {
            let session = session(rng, at, now, now + 20 * 3600);
            seal(rng, &session)
        };
        let good: Vec<_> = (0..60).map(|at| (fresh(rng, at % 3), NAMES[at % 3])).collect();
        let expendable = (0..20).map(|at| fresh(rng, at % 3)).collect();
        let mut bad = Vec::new();
        for at in 0..10 {
            let hour = 3600;
            let times = [
                (now - 9 * hour, now - 60, Refusal::ExpiredAbsolute),
                (now - 25 * hour, now + hour, Refusal::ExpiredAbsolute),
                (now - 9 * hour, now + hour, Refusal::ExpiredIdle),
                (now + hour, now + 8 * hour, Refusal::Future),
            ];
            for (created, end, reason) in times {
                let session = session(rng, at % 3, created, end);
                bad.push((seal(rng, &session), reason));
            }

            let session = session(rng, at % 3, now, now + 3600);
            bad.push((tokens::sign(&session, &tokens::keyring("other")), Refusal::BadTag));
            let own = &good[at].0;
            let other_kind =
                if own.starts_with("m1s") { own.replacen("m1s", "m1e", 1) } else { own.replacen("m1e", "m1s", 1) };
            bad.push((other_kind, Refusal::BadTag));
            bad.push((own.replacen(".new.", ".old.", 1), Refusal::BadTag));
            bad.push((own.replacen(".new.", ".gone.", 1), Refusal::UnknownKey));
            // The tag of another.
            let body = own.rsplit_once('.').expect("a token").0;
            let tag = good[at + 10].0.rsplit_once('.').expect("a token").1;
            bad.push((format!("{body}.{tag}"), Refusal::BadTag));
            // The last byte of the tag, and nothing else.
            let (rest, last) = own.split_at(own.len() - 1);
            let wrong = if last == "A" { "E" } else { "A" };
            bad.push((format!("{rest}{wrong}"), Refusal::BadTag));
            // As long as is read, and longer.
            for (length, reason) in [(3500, Refusal::BadTag), (3501, Refusal::Malformed), (3600, Refusal::Malformed)] {
                let padding = "A".repeat(length - "m1s.new..".len() - tag.len());
                bad.push((format!("m1s.new.{padding}.{tag}"), reason));
            }
        }
        Self { good, expendable, bad, noise: Noise::new(rng) }
    }

    /// What once was a good token. The plugin trims white space and takes one pair of quotes off, so that those do not make it bad.
    fn mutated(&self, rng: &mut Rng) -> Vec<u8> {
        let original = self.good[rng.usize(..self.good.len())].0.as_bytes();
        loop {
            let mut token = original.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..token.len().max(1));
                match rng.u8(..7) {
                    0 if !token.is_empty() => token[at] ^= 1 << rng.u8(..8),
                    1 if !token.is_empty() => token[at] = rng.u8(..),
                    2 => token.truncate(at),
                    3 => (0..rng.usize(1..9)).for_each(|_| token.push(rng.u8(..))),
                    4 => drop(token.drain(..at.min(token.len()))),
                    5 => token.extend_from_within(..),
                    _ => token.insert(at.min(token.len()), b"._-=%\"; ,\x00\xff"[rng.usize(..11)]),
                }
            }
            let value = token.split(|byte| *byte == b';').next().unwrap_or_default();
            let bare = value.trim_ascii();
            let bare = bare.strip_prefix(b"\"").and_then(|bare| bare.strip_suffix(b"\"")).unwrap_or(bare);
            // What follows a `;` is another cookie.
            let names_ours = token.split(|byte| *byte == b';').skip(1).any(|pair| pair.trim_ascii().starts_with(b"m"));
            if bare != original && !names_ours && !token.iter().any(|byte| b"\r\n".contains(byte)) {
                return token;
            }
        }
    }
}

/// Bytes that name no cookie of ours, drawn once: cases take pieces of it. Of the second half, HTTP forbids some.
struct Noise(Vec<u8>);

/// The longest piece.
const LONGEST: usize = 50_000;

impl Noise {
    fn new(rng: &mut Rng) -> Self {
        const PUNCTUATION: &[u8] = b";=,\" .n1e\t%$\\'()<>{}";
        let byte = |at| match rng.u8(..8) {
            0 | 1 => PUNCTUATION[rng.usize(..PUNCTUATION.len())],
            2 => rng.u8(0x80..),
            3 if at > LONGEST * 2 => rng.u8(..),
            _ => rng.u8(0x21..0x7f),
        };
        let bytes = (0..LONGEST * 4).map(byte);
        Self(bytes.map(|byte| if b"m\r\n".contains(&byte) { b'n' } else { byte }).collect())
    }

    fn piece(&self, rng: &mut Rng, length: usize, wild: bool) -> &[u8] {
        let from = rng.usize(..LONGEST) + if wild { LONGEST * 2 } else { 0 };
        &self.0[from..from + length]
    }
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "GET"];
const ODD_METHODS: [&str; 8] = ["get", "PROPFIND", "M-SEARCH", "TRACE", "CONNECT", "X", "G\u{c9}T", "PRI"];
const ODD_PATHS: [&[u8]; 10] =
    [b"*", b"http://a/x", b"", b"/\xff\x80", b"/%00%ff", b"//../..;m=x/", b"/#m", b"/a b", b"?", b"/\x01"];
const INTERNAL: [&str; 8] = [
    "x-mooring-host",
    "x-mooring-session",
    "x-mooring-action",
    "X-MOORING-HOST",
    "X-Mooring-Session",
    "x-mOORING-action",
    "X-Mooring-Host",
    "x-mooring-session",
];
const UNDERSCORED: [&str; 3] = ["x_mooring_host", "x-mooring_host", "X_Mooring-session"];

impl Case {
    /// The next request of this generator. A tame one is forbidden by nobody, and goes to a host that answers as it should.
    pub fn next(rng: &mut Rng, tokens: &Tokens, wild: bool) -> Self {
        loop {
            let case = Self::any(rng, tokens, wild);
            if wild || !case.expected.odd {
                return case;
            }
        }
    }

    fn any(rng: &mut Rng, tokens: &Tokens, wild: bool) -> Self {
        let mut case = Self {
            method: METHODS[rng.usize(..METHODS.len())].into(),
            path: b"/".to_vec(),
            headers: Vec::new(),
            body: None,
            trailers: Vec::new(),
            expected: Expected::default(),
        };
        match rng.u8(..if wild { 60 } else { 30 }) {
            0 => {
                case.path = format!("/{}?{}", "p".repeat(rng.usize(..9000)), "m=m1e.new".repeat(rng.usize(..20))).into()
            }
            30 => {
                case.method = ODD_METHODS[rng.usize(..ODD_METHODS.len())].into();
                case.expected.odd = true;
            }
            31 => {
                case.path = ODD_PATHS[rng.usize(..ODD_PATHS.len())].to_vec();
                case.expected.odd = true;
            }
            32.. => {
                case.path = format!("/other/{}", rng.u64(..)).into();
                case.expected.to_hostile_host = true;
            }
            _ => {}
        }
        case.add_cookies(rng, tokens, wild);
        for _ in 0..[0, 0, 1, 4][rng.usize(..4)] {
            let line = case.internal(rng, tokens, wild);
            case.headers.push(line);
        }
        match rng.u8(..30) {
            0 => {
                let noise = case.noise(rng, tokens, 30, wild);
                case.headers.push((["x-odd", "forwarded"][rng.usize(..2)].into(), noise));
            }
            1 => case.headers.push(("te".into(), b"trailers".to_vec())),
            3 => case.headers.push(("expect".into(), b"100-continue".to_vec())),
            4 if wild => {
                case.headers
                    .extend([("connection", "upgrade"), ("upgrade", "websocket")].map(|(n, v)| (n.into(), v.into())));
                case.expected.odd = true;
            }
            // A hundred lines are what Envoy takes.
            5 if wild => (0..120).for_each(|_| case.headers.push(("x-line".into(), b"x".to_vec()))),
            _ => {}
        }
        if rng.u8(..6) == 0 && !case.expected.odd && case.method != "HEAD" {
            let length = [0, 1, 10, 5000][rng.usize(..4)];
            case.body = Some(tokens.noise.piece(rng, length, true).to_vec());
            for _ in 0..rng.usize(..4) {
                let line = case.internal(rng, tokens, wild);
                case.trailers.push(line);
            }
        }
        rng.shuffle(&mut case.headers);
        case.judge();
        case
    }

    /// Noise for a header. What HTTP forbids in one makes the request odd.
    fn noise(&mut self, rng: &mut Rng, tokens: &Tokens, length: usize, wild: bool) -> Vec<u8> {
        let wild = wild && rng.u8(..8) == 0;
        let piece = tokens.noise.piece(rng, length, wild);
        self.expected.odd |= wild && piece.iter().any(forbidden);
        piece.to_vec()
    }

    fn add_cookies(&mut self, rng: &mut Rng, tokens: &Tokens, wild: bool) {
        // Others, of every form and size.
        let mut pairs: Vec<Vec<u8>> = Vec::new();
        for _ in 0..[0, 0, 1, 3, 3, 3, 3, 3, 3, 3, 3, 200][rng.usize(..12)] {
            let near = &tokens.good[rng.usize(..tokens.good.len())].0;
            pairs.push(match rng.u8(..8) {
                0 => format!("M={near}").into(),
                1 => format!("xm={near}").into(),
                2 => format!("m2={near}").into(),
                3 => format!("={near}").into(),
                4 => Vec::new(),
                _ => {
                    let length = rng.usize(..30);
                    self.noise(rng, tokens, length, wild)
                }
            });
        }
        if rng.u8(..50) == 0 {
            let length = rng.usize(..LONGEST);
            pairs.push(self.noise(rng, tokens, length, false));
        }
        // At most three that are ours and no good, so that a good one is among the four that are looked at.
        let ours = |value: &[u8]| [b"m=", value].concat();
        let mut insert = |rng: &mut Rng, pair| pairs.insert(rng.usize(..=pairs.len()), pair);
        for _ in 0..[0, 0, 1, 1, 1, 2, 3][rng.usize(..7)] {
            if rng.bool() {
                let (bad, reason) = &tokens.bad[rng.usize(..tokens.bad.len())];
                insert(rng, ours(bad.as_bytes()));
                self.expected.refused.push(Some(*reason));
            } else {
                let mutated = tokens.mutated(rng);
                self.expected.odd |= mutated.iter().any(forbidden);
                insert(rng, ours(&mutated));
                self.expected.refused.push(None);
            }
        }
        if self.expected.to_hostile_host {
            if rng.bool() {
                let expendable = &tokens.expendable[rng.usize(..tokens.expendable.len())];
                insert(rng, ours(expendable.as_bytes()));
            }
        } else if rng.u8(..3) == 0 {
            let (good, home) = &tokens.good[rng.usize(..tokens.good.len())];
            insert(rng, ours(good.as_bytes()));
            self.expected.home = Some(home);
        } else if rng.u8(..20) == 0 {
            // More than are looked at.
            (0..rng.usize(5..300)).for_each(|_| pairs.push(b"m=x".to_vec()));
            let reasons = self.expected.refused.iter().map(|_| None).chain(std::iter::repeat(None));
            self.expected.refused = reasons.take(4).collect();
        }
        // In one line or in several, empty ones among them.
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let split = rng.u8(..4) == 0;
        for pair in pairs {
            let line = lines.last_mut().expect("a line");
            if !line.is_empty() {
                line.extend([&b"; "[..], b";", b" ;\t", b";;"][rng.usize(..4)]);
            }
            line.extend(pair);
            if split && lines.len() < 60 && rng.bool() {
                lines.push(Vec::new());
            }
        }
        if lines.len() > 1 || !lines[0].is_empty() || rng.u8(..10) == 0 {
            let name = ["cookie", "Cookie", "COOKIE"][rng.usize(..3)];
            self.headers.extend(lines.into_iter().map(|line| (name.to_owned(), line)));
        }
    }

    /// A line under an internal name.
    fn internal(&mut self, rng: &mut Rng, tokens: &Tokens, wild: bool) -> (String, Vec<u8>) {
        let underscored = wild && rng.u8(..30) == 0;
        self.expected.odd |= underscored;
        let name = if underscored { UNDERSCORED[rng.usize(..3)] } else { INTERNAL[rng.usize(..INTERNAL.len())] };
        let value = match rng.u8(..4) {
            0 => SPOOFED_HOST.into(),
            1 => [SPOOF.as_bytes(), &self.noise(rng, tokens, 12, wild)].concat(),
            2 => SPOOF.repeat(4).into_bytes(),
            _ => [&self.noise(rng, tokens, 3, wild), SPOOF.as_bytes()].concat(),
        };
        (name.into(), value)
    }

    fn judge(&mut self) {
        let size: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        self.expected.odd |= size + self.path.len() > 58_000 || self.headers.len() > 90;
    }
}

/// In the value of a header.
fn forbidden(byte: &u8) -> bool {
    (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f
}
