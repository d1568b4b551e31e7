//! Reads JSON objects field by field and collects what is wrong, so that one report names every error.

use super::duration;
use super::error::{ConfigError, ConfigErrors};
use crate::json::Json;
use crate::text;
use std::cell::Cell;
use std::time::Duration;

/// Collects errors.
#[derive(Default)]
pub struct Report(Cell<Vec<ConfigError>>);

impl Report {
    /// Adds an error.
    #[cold]
    #[inline(never)]
    pub fn error(&self, path: &str, rule: String) {
        let mut errors = self.0.take();
        errors.push(ConfigError { path: path.into(), rule });
        self.0.set(errors);
    }

    /// `value`, if there was no error. `value` is there whenever no error was reported.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match (self.0.into_inner(), value) {
            (errors, Some(value)) if errors.is_empty() => Ok(value),
            (errors, _) => Err(ConfigErrors(errors)),
        }
    }
}

/// A value and its place in the config.
#[derive(Clone)]
pub struct Field<'a> {
    report: &'a Report,
    path: String,
    json: &'a Json,
}

impl<'a> Field<'a> {
    pub fn root(report: &'a Report, json: &'a Json) -> Self {
        Self { report, path: String::new(), json }
    }

    /// Reports a broken rule here. `None`, for use in place of a value.
    pub fn error<T>(&self, rule: impl Into<String>) -> Option<T> {
        self.report.error(&self.path, rule.into());
        None
    }

    fn mismatch<T>(&self, accepted: &str) -> Option<T> {
        self.error(format!("is {}; accepted is {accepted}", self.json.kind()))
    }

    pub fn bool(&self) -> Option<bool> {
        let Json::Bool(value) = self.json else { return self.mismatch("true or false") };
        Some(*value)
    }

    pub fn string(&self, accepted: &str) -> Option<&'a str> {
        let Json::String(value) = self.json else { return self.mismatch(accepted) };
        Some(value)
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let accepted = text::joined(words.iter().map(|(word, _)| text::concat(&["\"", word, "\""])), ", ");
        let given = self.string(&format!("one of {accepted}"))?;
        let known = words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
        known.or_else(|| self.error(format!("is not known; accepted is one of {accepted}")))
    }

    /// A whole number.
    pub fn whole(&self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        let Json::Number(number) = *self.json else { return self.mismatch(&accepted) };
        let fits = number.fract() == 0.0 && (f64::from(*range.start())..=f64::from(*range.end())).contains(&number);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = fits.then_some(number as u32);
        whole.or_else(|| self.error(format!("is out of range; accepted is {accepted}")))
    }

    pub fn duration(&self, shortest: Duration, longest: Duration) -> Option<Duration> {
        let Some(value) = duration::parse(self.string(duration::FORM)?) else {
            return self.error(format!("is not a duration; accepted is {}", duration::FORM));
        };
        if value < shortest || value > longest {
            let (from, to) = (duration::show(shortest), duration::show(longest));
            return self.error(format!("is out of range; accepted is a duration from {from} to {to}"));
        }
        Some(value)
    }

    /// A duration of whole seconds.
    pub fn seconds(&self, shortest: u32, longest: u32) -> Option<u32> {
        let bounds = [shortest, longest].map(|bound| Duration::from_secs(bound.into()));
        let [shortest, longest] = bounds;
        let value = self.duration(shortest, longest)?;
        if value.subsec_nanos() != 0 {
            return self.error("is not a whole number of seconds; accepted are whole seconds");
        }
        u32::try_from(value.as_secs()).ok()
    }

    pub fn items(&self, accepted: &str) -> Option<Vec<Field<'a>>> {
        let Json::Array(items) = self.json else { return self.mismatch(accepted) };
        let path = |at: usize| format!("{}[{at}]", self.path);
        let field = |(at, json)| Field { report: self.report, path: path(at), json };
        Some(items.iter().enumerate().map(field).collect())
    }

    pub fn is_null(&self) -> bool {
        *self.json == Json::Null
    }

    /// The members of an object, which may have those in `known` and no other.
    pub fn object(&self, known: &[&str]) -> Option<Object<'a>> {
        let Json::Object(members) = self.json else { return self.mismatch("an object") };
        let object = Object { report: self.report, path: self.path.clone(), members };
        for (at, (name, _)) in members.iter().enumerate() {
            let path = object.path_of(&shown(name));
            if !known.contains(&name.as_str()) {
                self.report.error(&path, format!("is an unknown field; accepted is {}", text::joined(known, ", ")));
            } else if members.iter().take(at).any(|(earlier, _)| earlier == name) {
                self.report.error(&path, "is given twice; accepted is once".into());
            }
        }
        Some(object)
    }
}

/// An unknown field's name, unless it may be a misplaced secret: 32 bytes take 43 characters of base64.
fn shown(name: &str) -> String {
    let plain = name.len() <= 32 && !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if plain { name.into() } else { "(a name that is not shown)".into() }
}

/// An object and its place in the config.
pub struct Object<'a> {
    report: &'a Report,
    path: String,
    members: &'a [(String, Json)],
}

impl<'a> Object<'a> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    /// Where errors of this object go.
    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// Reports that the member called `name` must be there.
    pub fn missing(&self, name: &str, accepted: &str) {
        self.report.error(&self.path_of(name), format!("is missing; accepted is {accepted}"));
    }

    /// The member called `name`, if it was given.
    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        let (_, json) = self.members.iter().find(|(member, _)| member == name)?;
        Some(Field { report: self.report, path: self.path_of(name), json })
    }

    /// The member called `name`, read, or `default` where it was not given.
    /// `None` where it was given and is wrong, which is reported.
    pub fn read<T>(&self, name: &str, default: T, read: impl FnOnce(Field<'a>) -> Option<T>) -> Option<T> {
        match self.get(name) {
            Some(field) => read(field),
            None => Some(default),
        }
    }

    /// As [`Object::read`], for a member that `null` turns off.
    pub fn read_nullable<T>(
        &self,
        name: &str,
        default: Option<T>,
        read: impl FnOnce(Field<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.read(name, default, |field| if field.is_null() { Some(None) } else { read(field).map(Some) })
    }

    /// Members of the object called `name`; no members where it was not given.
    pub fn section(&self, name: &str, known: &[&str]) -> Option<Object<'a>> {
        let absent = Object { report: self.report, path: self.path_of(name), members: &[] };
        self.read(name, absent, |field| field.object(known))
    }
}
