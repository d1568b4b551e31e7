//! The rules of `identify`: how clients carry their sessions.

use super::description::Shown;
use super::read_header;
use super::reader::{Field, Object};
use crate::carrier::cookie::CookieCarrier;
use crate::carrier::header::{HeaderCarrier, IssueTo};
use crate::carrier::{AnyCarrier, MAX_CARRIERS};
use crate::headers::HeaderName;
use crate::text::json::Json;

/// One of the ways, and where it stands.
pub(super) struct Entry {
    path: String,
    kind: Kind,
}

enum Kind {
    /// Its settings are those of the section `cookie`.
    Cookie,
    Header(HeaderCarrier),
}

impl Entry {
    /// The carrier that it asks for.
    pub(super) fn carrier(self, cookie: &CookieCarrier) -> AnyCarrier {
        match self.kind {
            Kind::Cookie => AnyCarrier::Cookie(cookie.clone()),
            Kind::Header(carrier) => AnyCarrier::Header(carrier),
        }
    }

    /// A header that it needs for itself, and where that is said.
    pub(super) fn header(&self) -> Option<(String, &HeaderName)> {
        match &self.kind {
            Kind::Cookie => None,
            Kind::Header(carrier) => Some((format!("{}.header.name", self.path), &carrier.name)),
        }
    }
}

impl Shown for Vec<Entry> {
    /// Of the default alone.
    fn shown(&self) -> Json {
        Json::Array(vec![Json::Object(vec![("cookie".into(), Json::Object(Vec::new()))])])
    }
}

pub(super) fn read(config: &Object<'_>) -> Option<Vec<Entry>> {
    let default = vec![Entry { path: "identify[0]".into(), kind: Kind::Cookie }];
    config.read("identify", default, |field| {
        let mut ways: Vec<Entry> = Vec::new();
        for item in field.items(1..=MAX_CARRIERS, "ways")? {
            for (name, settings) in item.one_of(&["cookie", "header"]) {
                let kind = if name == "cookie" { read_cookie(&settings, &ways) } else { read_token_header(&settings) };
                ways.extend(kind.map(|kind| Entry { path: item.path().into(), kind }));
            }
        }
        Some(ways)
    })
}

fn read_cookie(settings: &Field<'_>, earlier: &[Entry]) -> Option<Kind> {
    settings.object(&[])?;
    if let Some(first) = earlier.iter().find(|way| matches!(way.kind, Kind::Cookie)) {
        return settings.error(format!("is there already, as {}; accepted is one cookie", first.path));
    }
    Some(Kind::Cookie)
}

fn read_token_header(settings: &Field<'_>) -> Option<Kind> {
    let header = settings.object(&["name", "issue", "expose"])?;
    let name = header.read("name", HeaderName::new("x-session-token")?, |field| read_header(&field));
    let issue = header.read("issue", IssueTo::WhenAsked, |field| field.word());
    let expose = header.read("expose", false, |field| field.bool());
    Some(Kind::Header(HeaderCarrier { name: name?, issue: issue?, expose: expose? }))
}
