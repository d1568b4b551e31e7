//! Families of metrics: their labels, and how places and names come from one list.

use super::Names;
use crate::text::words::ClosedSet;

/// What tells the metrics of a family apart.
pub(super) trait Label: Copy {
    /// How many values it has at most.
    const COUNT: usize;

    /// Which of them this is.
    fn ordinal(self) -> usize;

    /// The word of the value at this place. `None`: there is no such value, or not yet.
    fn word(ordinal: usize, names: &Names<'_>) -> Option<String>;
}

impl<S: ClosedSet> Label for S {
    const COUNT: usize = S::WORDS.len();

    fn ordinal(self) -> usize {
        ClosedSet::ordinal(self)
    }

    fn word(ordinal: usize, _: &Names<'_>) -> Option<String> {
        S::WORDS.get(ordinal).map(|word| (*word).into())
    }
}

/// All labels of a family.
pub(super) trait Labels: Copy {
    /// How many metrics the family has at most.
    const COUNT: usize;

    /// The place of the one with these values.
    fn place(self) -> usize;

    /// The words of the one at this place. `None`: as [`Label::word`].
    fn words(place: usize, names: &Names<'_>) -> Option<Vec<String>>;
}

impl Labels for () {
    const COUNT: usize = 1;

    fn place(self) -> usize {
        0
    }

    fn words(_: usize, _: &Names<'_>) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

impl<A: Label> Labels for (A,) {
    const COUNT: usize = A::COUNT;

    fn place(self) -> usize {
        self.0.ordinal()
    }

    fn words(place: usize, names: &Names<'_>) -> Option<Vec<String>> {
        Some(vec![A::word(place, names)?])
    }
}

#[allow(clippy::arithmetic_side_effects)] // Of small numbers, and no label is without a value.
impl<A: Label, B: Label> Labels for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn place(self) -> usize {
        self.0.ordinal() * B::COUNT + self.1.ordinal()
    }

    fn words(place: usize, names: &Names<'_>) -> Option<Vec<String>> {
        Some(vec![A::word(place / B::COUNT, names)?, B::word(place % B::COUNT, names)?])
    }
}

/// `mooring_NAME.LABEL=WORD.LABEL=WORD`
pub(super) fn full_name(name: &str, labels: &[&str], words: &[String]) -> String {
    let mut full = String::with_capacity(80);
    full.push_str("mooring_");
    full.push_str(name);
    for (label, word) in labels.iter().zip(words) {
        [".", label, "=", word].into_iter().for_each(|part| full.push_str(part));
    }
    full
}

/// Declares metrics of one kind by their families, each with its labels and its name without `mooring_`. Their places and names come from
/// this list alone.
macro_rules! metrics {
    (
        $(#[$about:meta])*
        pub enum $Kind:ident { $($(#[$family_about:meta])* $Family:ident $(($($label:ident: $Label:ty),+))? = $name:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Kind {
            $($(#[$family_about])* $Family $(($($Label),+))?,)+
        }

        #[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)] // Of constants, and in them.
        impl $Kind {
            /// How many there are at most, in all families.
            pub const COUNT: usize = Self::start(usize::MAX);

            /// Where the family at this place in the list begins.
            const fn start(family: usize) -> usize {
                let counts = [$(<($($($Label,)+)?) as $crate::observe::metrics::family::Labels>::COUNT),+];
                let (mut at, mut start) = (0, 0);
                while at < family && at < counts.len() {
                    start += counts[at];
                    at += 1;
                }
                start
            }

            /// Its place among all.
            pub fn index(self) -> usize {
                enum Place { $($Family),+ }
                match self {
                    $(Self::$Family $(($($label),+))? => {
                        let start = const { Self::start(Place::$Family as usize) };
                        start + $crate::observe::metrics::family::Labels::place(($($($label,)+)?))
                    })+
                }
            }

            /// The name of the one at this place. `None`: a label has no such value, or not yet.
            pub fn name(index: usize, names: &Names<'_>) -> Option<String> {
                enum Place { $($Family),+ }
                $({
                    const START: usize = $Kind::start(Place::$Family as usize);
                    if (START..START + <($($($Label,)+)?) as $crate::observe::metrics::family::Labels>::COUNT).contains(&index) {
                        let words = <($($($Label,)+)?) as $crate::observe::metrics::family::Labels>::words(index - START, names)?;
                        return Some($crate::observe::metrics::family::full_name($name, &[$($(stringify!($label)),+)?], &words));
                    }
                })+
                None
            }
        }
    };
}

pub(super) use metrics;
