//! What was sent, what came back, and what should not have.

use super::cases::Expected;
use mooring::credential::token::Refusal;
use std::collections::BTreeMap;

/// Of some requests, or of all.
#[derive(Default)]
pub struct Tally {
    /// By protocol.
    pub sent: BTreeMap<&'static str, u64>,
    /// By what came back: the class of a status, or that nothing did.
    pub came: BTreeMap<&'static str, u64>,
    /// Of those that the plugin passed.
    pub decisions: BTreeMap<String, u64>,
    /// Requests with a token that is good.
    pub good: Span,
    /// Tokens that are refused.
    pub refused: Span,
    /// Those of them for which there is one reason only.
    pub reasons: BTreeMap<&'static str, Span>,
    /// What should not have happened.
    pub wrong: Vec<String>,
}

/// How many were sent, and of how many of them it is known that the plugin has seen them: what it counts lies between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub sent: u64,
    pub seen: u64,
}

impl Span {
    pub fn assert_holds(&self, counted: u64, what: &str) {
        assert!((self.seen..=self.sent).contains(&counted), "{counted} {what} were counted, against {self:?}");
    }
}

/// What a client got.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// `x-decision`.
    pub decision: Option<String>,
    /// `x-served-by`.
    pub host: Option<String>,
    /// Every name of a header or a trailer.
    pub names: Vec<String>,
}

impl Answer {
    /// Takes a line of it.
    pub fn take(&mut self, name: &str, value: &[u8]) {
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match name {
            "x-decision" => self.decision = text(),
            "x-served-by" => self.host = text(),
            _ => {}
        }
        self.names.push(name.into());
    }
}

impl Tally {
    /// A request goes out.
    pub fn send(&mut self, protocol: &'static str, expected: &Expected) {
        *self.sent.entry(protocol).or_default() += 1;
        // Whether a hostile host's request brings a good token is not told apart.
        self.good.sent += u64::from(expected.home.is_some() || expected.to_hostile_host);
        self.refused.sent += expected.refused.len() as u64;
        for reason in expected.refused.iter().flatten() {
            self.reasons.entry(word(*reason)).or_default().sent += 1;
        }
    }

    /// Nothing came back. `allowed`: it is no wonder.
    pub fn lose(&mut self, case: &str, allowed: bool) {
        *self.came.entry("nothing").or_default() += 1;
        if !allowed {
            self.wrong.push(format!("no answer: {case}"));
        }
    }

    /// An answer came back.
    pub fn answer(&mut self, expected: &Expected, answer: &Answer, case: &dyn Fn() -> String) {
        let class = ["?", "1xx", "2xx", "3xx", "4xx", "5xx"];
        *self.came.entry(class.get(usize::from(answer.status / 100)).unwrap_or(&"?")).or_default() += 1;
        if let Some(decision) = &answer.decision {
            *self.decisions.entry(decision.clone()).or_default() += 1;
            self.good.seen += u64::from(expected.home.is_some() && decision == "resumed");
            self.refused.seen += expected.refused.len() as u64;
            for reason in expected.refused.iter().flatten() {
                self.reasons.entry(word(*reason)).or_default().seen += 1;
            }
        }
        let leaked =
            answer.names.iter().any(|name| name.to_ascii_lowercase().replace('_', "-").starts_with("x-mooring"));
        if leaked || !is_right(expected, answer) {
            self.wrong.push(format!("{answer:?} to {}", case()));
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        let sum = |into: &mut BTreeMap<&'static str, u64>, from: BTreeMap<&'static str, u64>| {
            from.into_iter().for_each(|(key, count)| *into.entry(key).or_default() += count);
        };
        sum(&mut self.sent, other.sent);
        sum(&mut self.came, other.came);
        other.decisions.into_iter().for_each(|(key, count)| *self.decisions.entry(key).or_default() += count);
        for (key, span) in other.reasons {
            self.reasons.entry(key).or_default().add(span);
        }
        self.good.add(other.good);
        self.refused.add(other.refused);
        self.wrong.extend(other.wrong);
    }

    /// How many requests were sent.
    pub fn requests(&self) -> u64 {
        self.sent.values().sum()
    }
}

impl Span {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.seen += other.seen;
    }
}

/// Whether a request may be answered so.
fn is_right(expected: &Expected, answer: &Answer) -> bool {
    if expected.to_hostile_host {
        return true;
    }
    match (answer.status, answer.decision.as_deref()) {
        (200, Some("resumed")) => expected.home.is_some() && expected.home == answer.host.as_deref(),
        (200, Some("created")) => expected.home.is_none() && answer.host.is_some(),
        // Of a path outside the cookie's.
        (200, Some("untouched")) => expected.odd,
        (400..500, _) => expected.odd,
        _ => false,
    }
}

fn word(reason: Refusal) -> &'static str {
    match reason {
        Refusal::Malformed => "malformed",
        Refusal::UnknownKey => "unknown_key",
        Refusal::BadTag => "bad_tag",
        Refusal::ExpiredAbsolute => "expired_absolute",
        Refusal::ExpiredIdle => "expired_idle",
        Refusal::Future => "future",
        Refusal::Revoked => "revoked",
    }
}
