//! A store for tests: the contract in memory, in the words of the protocol `rest`. Time does not pass in it.

use super::{Answer, Command, StoreKey, Version};

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    /// `None`: a tombstone.
    value: Option<String>,
    ttl: u32,
    version: u32,
}

/// What it holds.
#[derive(Debug, Default)]
pub struct Model {
    entries: Vec<Entry>,
    versions: u32,
}

impl Version {
    /// Whether a move that expects it may replace this. Scripts expect a tag, with which the value ends.
    fn is_of(&self, value: &str, etag: &str) -> bool {
        let Self::Text(text) = self else { return false };
        **text == *etag || !text.starts_with('"') && value.ends_with(&**text)
    }
}

impl Model {
    /// Does what is asked.
    pub fn answer(&mut self, key: &StoreKey, command: &Command) -> Answer {
        let there = self.entries.iter().find(|entry| entry.key == key.as_str());
        let current = there.map(|entry| (entry.value.clone(), format!("\"{}\"", entry.version)));
        let response = |status, etag: Option<String>, body: String| Answer::Response {
            status,
            etag: etag.map(String::into_bytes),
            body: body.into_bytes(),
        };
        match (command, current) {
            (Command::Revoke { ttl, .. }, _) => {
                self.put(key, None, *ttl);
                response(204, None, String::new())
            }
            (_, Some((None, _))) => response(410, None, "revoked\n".into()),
            (Command::Lookup, Some((Some(value), etag))) => response(200, Some(etag), value),
            (Command::Lookup | Command::Touch { .. }, None) => response(404, None, "missing\n".into()),
            (Command::Touch { ttl }, Some(_)) => {
                for entry in self.entries.iter_mut().filter(|entry| entry.key == key.as_str()) {
                    entry.ttl = entry.ttl.max(*ttl);
                }
                response(204, None, String::new())
            }
            (Command::Create { value, ttl }, None) => {
                response(201, Some(self.put(key, Some(value), *ttl)), String::new())
            }
            (Command::Move { expected, value, ttl }, Some((Some(there), etag))) if expected.is_of(&there, &etag) => {
                response(204, Some(self.put(key, Some(value), *ttl)), String::new())
            }
            (Command::Create { .. } | Command::Move { .. }, Some((Some(value), etag))) => {
                response(412, Some(etag), value)
            }
            (Command::Move { .. }, None) => response(412, None, String::new()),
        }
    }

    fn put(&mut self, key: &StoreKey, value: Option<&String>, ttl: u32) -> String {
        self.versions = self.versions.saturating_add(1);
        self.entries.retain(|entry| entry.key != key.as_str());
        let entry = Entry { key: key.as_str().into(), value: value.cloned(), ttl, version: self.versions };
        self.entries.push(entry);
        format!("\"{}\"", self.versions)
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.entries.clear();
    }

    /// The value under a key; an empty one is a tombstone.
    pub fn value(&self, key: &StoreKey) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.key == key.as_str());
        entry.map(|entry| entry.value.as_deref().unwrap_or_default())
    }

    /// For how many seconds it keeps what is under a key.
    pub fn ttl(&self, key: &StoreKey) -> Option<u32> {
        self.entries.iter().find(|entry| entry.key == key.as_str()).map(|entry| entry.ttl)
    }

    /// Puts a value there that nobody asked for.
    pub fn plant(&mut self, key: &StoreKey, value: &str) {
        self.put(key, Some(&value.to_owned()), 1);
    }
}
