//! What the reader of configs tells of itself: which values it takes for each field, and which it takes where none is given. For the
//! command line; the compiler leaves it out of the plugin.

use super::duration;
use crate::headers::HeaderName;
use crate::text::json::Json;
use crate::text::words::ClosedSet;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the reader tells of a field while it reads it.
#[derive(Clone, Debug)]
pub(super) enum Note {
    Boolean,
    Text,
    Words(Vec<String>),
    Whole(RangeInclusive<u32>),
    Duration,
    Items(RangeInclusive<usize>),
    Members(Vec<String>),
    /// No kind of value: the field must be there.
    Required,
    /// No kind of value: `null` turns it off.
    Nullable,
    /// No kind of value: the object has one member, whichever.
    ExactlyOne,
    /// No kind of value: what holds where the field is not given.
    Default(Json),
}

/// A default, as a config would have it.
pub(super) trait Shown {
    fn shown(&self) -> Json;
}

impl<T: ClosedSet> Shown for T {
    fn shown(&self) -> Json {
        Json::String(T::WORDS.get(self.ordinal()).copied().unwrap_or_default().into())
    }
}

impl Shown for bool {
    fn shown(&self) -> Json {
        Json::Bool(*self)
    }
}

impl Shown for u32 {
    fn shown(&self) -> Json {
        Json::Number((*self).into())
    }
}

impl Shown for &str {
    fn shown(&self) -> Json {
        Json::String((*self).into())
    }
}

impl Shown for Duration {
    fn shown(&self) -> Json {
        Json::String(duration::show(*self))
    }
}

impl Shown for HeaderName {
    fn shown(&self) -> Json {
        Json::String(self.as_str().into())
    }
}

/// What is known of a field.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldDescription {
    /// Its kind of value: never one of the notes that are none.
    pub(super) kind: Option<Note>,
    pub(super) required: bool,
    pub(super) nullable: bool,
    pub(super) exactly_one: bool,
    pub(super) default: Option<Json>,
}

/// What is known of every field, by its path, as in `keys[].id`.
#[derive(Default)]
pub(super) struct Description(RefCell<BTreeMap<String, FieldDescription>>);

impl Description {
    /// Takes a note. Of several kinds the first holds: the others are what it is made of, a duration of a text.
    pub(super) fn add(&self, path: &str, note: Note) {
        let mut fields = self.0.borrow_mut();
        let known = fields.entry(path.replace("[0]", "[]")).or_default();
        match note {
            Note::Required => known.required = true,
            Note::Nullable => known.nullable = true,
            Note::ExactlyOne => known.exactly_one = true,
            Note::Default(default) => known.default = Some(default),
            Note::Boolean
            | Note::Text
            | Note::Words(_)
            | Note::Whole(_)
            | Note::Duration
            | Note::Items(_)
            | Note::Members(_) => known.kind = known.kind.take().or(Some(note)),
        }
    }

    pub(super) fn into_fields(self) -> BTreeMap<String, FieldDescription> {
        self.0.into_inner()
    }
}
