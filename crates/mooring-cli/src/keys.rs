//! The `keys` of a config's JSON, changed as text, so that layout and everything else stay as they are.

use mooring::credential::keyring::KeyId;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;

/// A key id from the command line.
pub(crate) fn key_id(text: &str) -> Result<String, String> {
    KeyId::new(text).map(|id| id.as_str().to_owned()).ok_or_else(|| "1 to 32 characters of A-Z a-z 0-9 _ -".to_owned())
}

/// The variable of a key's own: `MOORING_KEY_2026_11`.
pub(crate) fn variable_for(id: &str) -> String {
    format!("MOORING_KEY_{}", id.replace('-', "_").to_ascii_uppercase())
}

/// A key whose secret is in an environment variable, as JSON.
pub(crate) fn written(id: &str, variable: &str) -> String {
    format!(r#"{{ "id": {}, "secret": {{ "env": {} }} }}"#, Value::from(id), Value::from(variable))
}

/// Where the keys are in a text.
pub(crate) struct Keys<'a> {
    text: &'a str,
    keys: Vec<KeyEntry>,
}

struct KeyEntry {
    id: String,
    place: Range<usize>,
}

impl<'a> Keys<'a> {
    /// Finds the keys. `None` where the text is no config that the plugin's reader accepts.
    pub(crate) fn find(text: &'a str) -> Option<Self> {
        let place = |raw: &RawValue| {
            let from = (raw.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            Some(from..from.checked_add(raw.get().len())?)
        };
        let config: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        let keys: Vec<&RawValue> = serde_json::from_str(config.get("keys")?.get()).ok()?;
        let keys = keys.into_iter().map(|key| {
            let id = serde_json::from_str::<Value>(key.get()).ok()?.get("id")?.as_str()?.to_owned();
            Some(KeyEntry { id, place: place(key)? })
        });
        Some(Self { text, keys: keys.collect::<Option<_>>()? })
    }

    /// The ids, in order: the first signs.
    pub(crate) fn ids(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.id.as_str()).collect()
    }

    fn at(&self, position: usize) -> Option<(&KeyEntry, &'a str)> {
        let key = self.keys.get(position)?;
        Some((key, self.text.get(key.place.clone())?))
    }

    fn replaced(&self, place: Range<usize>, by: &str) -> Option<String> {
        Some([self.text.get(..place.start)?, by, self.text.get(place.end..)?].concat())
    }

    /// With this key behind the others, laid out as they are.
    pub(crate) fn added(&self, id: &str, variable: &str) -> Option<String> {
        let last = self.keys.last()?;
        let between = match self.keys.len().checked_sub(2).and_then(|before| self.keys.get(before)) {
            Some(before) => self.text.get(before.place.end..last.place.start)?.to_owned(),
            // The only key: on a line of its own if it has one.
            None => {
                let before = self.text.get(..last.place.start)?;
                let space = before.get(before.trim_end().len()..)?;
                if space.contains('\n') { format!(",{space}") } else { ", ".to_owned() }
            }
        };
        self.replaced(last.place.end..last.place.end, &format!("{between}{}", written(id, variable)))
    }

    /// With the key at this position first, and the others behind it in their order.
    pub(crate) fn promoted(&self, position: usize) -> Option<String> {
        let mut order: Vec<usize> = (0..self.keys.len()).collect();
        order.get_mut(..=position)?.rotate_right(1);
        let mut text = String::new();
        let mut end = 0;
        for (slot, from) in self.keys.iter().zip(order) {
            text.push_str(self.text.get(end..slot.place.start)?);
            text.push_str(self.at(from)?.1);
            end = slot.place.end;
        }
        text.push_str(self.text.get(end..)?);
        Some(text)
    }

    /// Without the key at this position, which is not the first.
    pub(crate) fn retired(&self, position: usize) -> Option<String> {
        let before = self.keys.get(position.checked_sub(1)?)?;
        self.replaced(before.place.end..self.keys.get(position)?.place.end, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{
  "keys": [
    {"id": "a", "secret": {"env": "A"}},
    { "secret" : {"env":"B"}, "id":"b" }
  ],
  "scope": "[1, 2]"
}
"#;
    const LINE: &str = r#"{"scope": "s", "keys": [{"id": "a", "secret": {"env": "A"}}]}"#;

    #[test]
    fn a_key_is_added_behind_the_others_in_their_layout() {
        let added = Keys::find(LINES).unwrap().added("c-1", "C").unwrap();
        let line = "    { \"id\": \"c-1\", \"secret\": { \"env\": \"C\" } }\n";
        assert_eq!(added, LINES.replace("\"id\":\"b\" }\n", &format!("\"id\":\"b\" }},\n{line}")));
        let one_line = Keys::find(LINE).unwrap().added("b", "B").unwrap();
        assert_eq!(one_line, LINE.replace("}]", r#"}, { "id": "b", "secret": { "env": "B" } }]"#));
        let only = "{\"keys\": [\n\t{\"id\": \"a\"}\n]}";
        let added = Keys::find(only).unwrap().added("b", "B").unwrap();
        assert_eq!(added, "{\"keys\": [\n\t{\"id\": \"a\"},\n\t{ \"id\": \"b\", \"secret\": { \"env\": \"B\" } }\n]}");
    }

    #[test]
    fn keys_change_places_and_the_layout_stays() {
        let promoted = Keys::find(LINES).unwrap().promoted(1).unwrap();
        let (a, b) = (r#"{"id": "a", "secret": {"env": "A"}}"#, r#"{ "secret" : {"env":"B"}, "id":"b" }"#);
        assert_eq!(promoted, LINES.replace(a, "…").replace(b, a).replace('…', b));
        let three = r#"{"keys":[{"id":"a"}, {"id":"b"},{"id":"c"}]}"#;
        assert_eq!(Keys::find(three).unwrap().promoted(2).unwrap(), r#"{"keys":[{"id":"c"}, {"id":"a"},{"id":"b"}]}"#);
    }

    #[test]
    fn a_key_goes_with_the_comma_before_it() {
        let retired = Keys::find(LINES).unwrap().retired(1).unwrap();
        assert_eq!(retired, LINES.replace(",\n    { \"secret\" : {\"env\":\"B\"}, \"id\":\"b\" }", ""));
        let three = r#"{"keys":[{"id":"a"}, {"id":"b"},{"id":"c"}]}"#;
        assert_eq!(Keys::find(three).unwrap().retired(1).unwrap(), r#"{"keys":[{"id":"a"},{"id":"c"}]}"#);
    }
}
