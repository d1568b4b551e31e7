//! Closed sets that have a word for each of their members.

/// A closed set of values, each with a word for counters and logs.
pub(crate) trait ClosedSet: Copy {
    /// Their words, in order.
    const WORDS: &'static [&'static str];

    /// The place of this one's word among them.
    fn ordinal(self) -> usize;

    /// The value of a word. `None` for an unknown one, and for one whose value says more.
    fn of(word: &str) -> Option<Self>;
}

/// Declares an enum that is a [`ClosedSet`]. A member may say more than its word: `Refused(refusal: Refusal) = "refused"`. Counters have
/// the member's own word then, and logs that of what it says.
macro_rules! closed_set {
    (
        $(#[$about:meta])*
        pub enum $Set:ident { $($(#[$member_about:meta])* $Member:ident $(($detail:ident: $Detail:ty))? = $word:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Set {
            $($(#[$member_about])* $Member $(($Detail))?,)+
        }

        impl $crate::text::words::ClosedSet for $Set {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn ordinal(self) -> usize {
                enum Place { $($Member),+ }
                match self {
                    $(Self::$Member { .. } => Place::$Member as usize,)+
                }
            }

            fn of(word: &str) -> Option<Self> {
                match word {
                    $($word => closed_set!(@value $Member $($detail)?),)+
                    _ => None,
                }
            }
        }

        impl $Set {
            /// Its word in logs.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$Member $(($detail))? => closed_set!(@word $word $($detail)?),)+
                }
            }
        }
    };
    (@value $Member:ident) => { Some(Self::$Member) };
    (@value $Member:ident $detail:ident) => { None };
    (@word $word:literal) => { $word };
    (@word $word:literal $detail:ident) => { $detail.word() };
}

pub(crate) use closed_set;
