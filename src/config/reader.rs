//! Reads JSON objects field by field and collects what is wrong, so that one report names every error.

use super::Environment;
use super::description::{Description, Note, Shown};
use super::duration;
use super::error::{ConfigError, ConfigErrors};
use crate::text;
use crate::text::json::Json;
use crate::text::words::ClosedSet;
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What every field holds while the reader describes itself: true, so that nothing takes it for `null`.
const ANYTHING: &Json = &Json::Bool(true);

/// Collects errors.
#[derive(Default)]
pub(super) struct Report<'a> {
    errors: Cell<Vec<ConfigError>>,
    /// What is read describes itself here, instead of being read. `None` in the plugin.
    description: Option<&'a Description>,
}

impl Report<'_> {
    /// Adds an error.
    #[cold]
    #[inline(never)]
    pub(super) fn error(&self, path: &str, rule: String) {
        let mut errors = self.errors.take();
        errors.push(ConfigError { path: path.into(), rule });
        self.errors.set(errors);
    }

    /// `value`, if there was no error. `value` is there whenever no error was reported.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match (self.errors.into_inner(), value) {
            (errors, Some(value)) if errors.is_empty() => Ok(value),
            (errors, _) => Err(ConfigErrors(errors)),
        }
    }
}

impl Report<'_> {
    /// What `read` says of the fields that it reads.
    #[cfg(feature = "description")]
    pub(super) fn describe<T>(read: impl FnOnce(&Field<'_>) -> Option<T>) -> Description {
        let description = Description::default();
        let report = Report { description: Some(&description), ..Report::default() };
        // What it makes of nothing does not matter.
        let _ = read(&Field::root(&report, ANYTHING));
        description
    }

    /// Whether what is read describes itself. Known when the plugin is compiled, which therefore has none of this.
    fn describes(&self) -> bool {
        cfg!(feature = "description") && self.description.is_some()
    }

    /// Takes a note of the field at `path`, if this is about descriptions; whether it is.
    fn note(&self, path: &str, note: impl FnOnce() -> Note) -> bool {
        if self.describes()
            && let Some(description) = self.description
        {
            description.add(path, note());
        }
        self.describes()
    }
}

/// A value and its place in the config.
#[derive(Clone)]
pub(super) struct Field<'a> {
    report: &'a Report<'a>,
    path: String,
    json: &'a Json,
}

impl<'a> Field<'a> {
    pub(super) fn root(report: &'a Report<'a>, json: &'a Json) -> Self {
        Self { report, path: String::new(), json }
    }

    /// Reports a broken rule here. `None`, for use in place of a value.
    pub(super) fn error<T>(&self, rule: impl Into<String>) -> Option<T> {
        self.report.error(&self.path, rule.into());
        None
    }

    fn note(&self, note: impl FnOnce() -> Note) -> bool {
        self.report.note(&self.path, note)
    }

    fn mismatch<T>(&self, accepted: &str) -> Option<T> {
        self.error(format!("is {}; accepted is {accepted}", self.json.kind()))
    }

    pub(super) fn bool(&self) -> Option<bool> {
        self.note(|| Note::Boolean);
        let Json::Bool(value) = self.json else { return self.mismatch("true or false") };
        Some(*value)
    }

    pub(super) fn string(&self, accepted: &str) -> Option<&'a str> {
        self.note(|| Note::Text);
        let Json::String(value) = self.json else { return self.mismatch(accepted) };
        Some(value)
    }

    /// One of a closed set of words.
    pub(super) fn word<T: ClosedSet>(&self) -> Option<T> {
        self.note(|| Note::Words(T::WORDS.iter().map(|word| (*word).into()).collect()));
        let accepted = text::joined(T::WORDS.iter().map(|word| text::concat(&["\"", word, "\""])), ", ");
        let given = self.string(&format!("one of {accepted}"))?;
        T::of(given).or_else(|| self.error(format!("is not known; accepted is one of {accepted}")))
    }

    /// A whole number.
    pub(super) fn whole(&self, range: RangeInclusive<u32>) -> Option<u32> {
        self.note(|| Note::Whole(range.clone()));
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        let Json::Number(number) = *self.json else { return self.mismatch(&accepted) };
        let fits = number.fract() == 0.0 && (f64::from(*range.start())..=f64::from(*range.end())).contains(&number);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = fits.then_some(number as u32);
        whole.or_else(|| self.error(format!("is out of range; accepted is {accepted}")))
    }

    pub(super) fn duration(&self, shortest: Duration, longest: Duration) -> Option<Duration> {
        self.note(|| Note::Duration);
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
    pub(super) fn seconds(&self, shortest: Duration, longest: Duration) -> Option<Duration> {
        let value = self.duration(shortest, longest)?;
        if value.subsec_nanos() == 0 {
            Some(value)
        } else {
            self.error("is not a whole number of seconds; accepted are whole seconds")
        }
    }

    /// The items of an array. `count` says how many it may have, `what` names them in errors.
    pub(super) fn items(&self, count: RangeInclusive<usize>, what: &str) -> Option<Vec<Field<'a>>> {
        let path = |at: usize| format!("{}[{at}]", self.path);
        if self.note(|| Note::Items(count.clone())) {
            return Some(vec![Field { report: self.report, path: path(0), json: ANYTHING }]);
        }
        let accepted = format!("an array of {} to {} {what}", count.start(), count.end());
        let Json::Array(items) = self.json else { return self.mismatch(&accepted) };
        if !count.contains(&items.len()) {
            self.error::<()>(format!("has {} {what}; accepted is {accepted}", items.len()));
        }
        let field = |(at, json)| Field { report: self.report, path: path(at), json };
        Some(items.iter().enumerate().map(field).collect())
    }

    /// The member of an object that must have one of those in `known`, and nothing else. Each of them while the reader describes itself.
    pub(super) fn one_of(&self, known: &[&'static str]) -> Vec<(&'static str, Field<'a>)> {
        let Some(object) = self.object(known) else { return Vec::new() };
        let given: Vec<_> = known.iter().filter_map(|name| Some((*name, object.get(name)?))).collect();
        if self.note(|| Note::ExactlyOne) || given.len() == 1 {
            return given;
        }
        // Of a member that is unknown the report has that already.
        if object.members.len() == given.len() {
            self.error::<()>(format!("has {} of {}; accepted is exactly one", given.len(), text::joined(known, ", ")));
        }
        Vec::new()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_null(&self) -> bool {
        *self.json == Json::Null
    }

    /// The members of an object, which may have those in `known` and no other.
    pub(super) fn object(&self, known: &[&str]) -> Option<Object<'a>> {
        if self.note(|| Note::Members(known.iter().map(|name| (*name).into()).collect())) {
            return Some(Object { report: self.report, path: self.path.clone(), members: &[] });
        }
        let Json::Object(members) = self.json else { return self.mismatch("an object") };
        let object = Object { report: self.report, path: self.path.clone(), members };
        for (at, (name, _)) in members.iter().enumerate() {
            let path = object.path_of(&shown(name));
            if !known.contains(&name.as_str()) {
                let rule = match known {
                    [] => "is an unknown field, and there are none here; accepted is {}".into(),
                    _ => format!("is an unknown field; accepted is {}", text::joined(known, ", ")),
                };
                self.report.error(&path, rule);
            } else if members.iter().take(at).any(|(earlier, _)| earlier == name) {
                self.report.error(&path, "is given twice; accepted is once".into());
            }
        }
        Some(object)
    }

    /// A secret: `{"env": "NAME"}` names a variable that holds it, `{"INLINE": "…"}` is the secret itself. Returns its bytes, and the
    /// field that they came from, for errors.
    pub(super) fn source(
        &self,
        inline: &str,
        what: &str,
        environment: Environment<'_>,
    ) -> Option<(Field<'a>, Vec<u8>)> {
        let source = self.object(&["env", inline])?;
        let name = |field: &Field<'a>| field.string("the name of an environment variable");
        let (variable, itself) = (source.get("env"), source.get(inline));
        if self.note(|| Note::ExactlyOne) {
            let _ = (name(&variable?), itself?.string(what));
            return None;
        }
        match (variable, itself) {
            (Some(field), None) => match environment(name(&field)?) {
                Some(value) => Some((field, value)),
                None => field.error(text::concat(&[
                    "names an environment variable that is not set; accepted is one that the Wasm VM gets \
                     (vm_config.environment_variables), with ",
                    what,
                    " in it",
                ])),
            },
            (None, Some(field)) => {
                let value = field.string(what)?.into();
                Some((field, value))
            }
            (None, None) | (Some(_), Some(_)) => self.error(text::concat(&[
                "names not exactly one source; accepted is {\"env\": \"NAME\"} or {\"",
                inline,
                "\": \"…\"}",
            ])),
        }
    }
}

/// An unknown field's name, unless it may be a misplaced secret: 32 bytes take 43 characters of base64.
fn shown(name: &str) -> String {
    let plain = name.len() <= 32 && !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if plain { name.into() } else { "(a name that is not shown)".into() }
}

/// An object and its place in the config.
pub(super) struct Object<'a> {
    report: &'a Report<'a>,
    path: String,
    members: &'a [(String, Json)],
}

impl<'a> Object<'a> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    /// Where errors of this object go.
    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// The member called `name`, if it was given.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let path = self.path_of(name);
        if self.report.describes() {
            return Some(Field { report: self.report, path, json: ANYTHING });
        }
        let (_, json) = self.members.iter().find(|(member, _)| member == name)?;
        Some(Field { report: self.report, path, json })
    }

    /// The member called `name`, which must be there.
    pub(super) fn required(&self, name: &str, accepted: &str) -> Option<Field<'a>> {
        self.report.note(&self.path_of(name), || Note::Required);
        let field = self.get(name);
        if field.is_none() {
            self.report.error(&self.path_of(name), format!("is missing; accepted is {accepted}"));
        }
        field
    }

    /// The member called `name`, read, or `default` where it was not given.
    /// `None` where it was given and is wrong, which is reported.
    pub(super) fn read<T: Shown>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(Field<'a>) -> Option<T>,
    ) -> Option<T> {
        self.report.note(&self.path_of(name), || Note::Default(default.shown()));
        self.get(name).map_or(Some(default), read)
    }

    /// As [`Object::read`], for a member whose default depends on others: `None` within where it was not given.
    pub(super) fn read_if_given<T>(&self, name: &str, read: impl FnOnce(Field<'a>) -> Option<T>) -> Option<Option<T>> {
        self.get(name).map_or(Some(None), |field| read(field).map(Some))
    }

    /// As [`Object::read`], for a member that is off where it was not given, and that `null` turns off.
    pub(super) fn read_or_off<T>(&self, name: &str, read: impl FnOnce(Field<'a>) -> Option<T>) -> Option<Option<T>> {
        self.report.note(&self.path_of(name), || Note::Default(Json::Null));
        self.read_nullable(name, None, read)
    }

    /// As [`Object::read`], for a member that `null` turns off.
    pub(super) fn read_unless_off<T: Shown>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(Field<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.report.note(&self.path_of(name), || Note::Default(default.shown()));
        self.read_nullable(name, Some(default), read)
    }

    fn read_nullable<T>(
        &self,
        name: &str,
        default: Option<T>,
        read: impl FnOnce(Field<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.report.note(&self.path_of(name), || Note::Nullable);
        let Some(field) = self.get(name) else { return Some(default) };
        if field.is_null() { Some(None) } else { read(field).map(Some) }
    }

    /// Members of the object called `name`; no members where it was not given.
    pub(super) fn section(&self, name: &str, known: &[&str]) -> Option<Object<'a>> {
        self.report.note(&self.path_of(name), || Note::Default(Json::Object(Vec::new())));
        let absent = Object { report: self.report, path: self.path_of(name), members: &[] };
        self.get(name).map_or(Some(absent), |field| field.object(known))
    }
}
