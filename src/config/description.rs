//! What the reader of configs tells of itself: which values it takes for each field. For the command line; never part of the plugin.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

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
    /// Not a kind of value: the field must be there.
    Required,
    /// Nor this: `null` turns it off.
    Nullable,
    /// Nor this: the object has one member, whichever.
    ExactlyOne,
}

/// What is known of a field.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldDescription {
    /// Its kind of value: never one of the three that are not.
    pub kind: Option<Note>,
    pub required: bool,
    pub nullable: bool,
    pub exactly_one: bool,
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
