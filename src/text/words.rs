//! Closed sets that have a word for each of their members.

/// Declares an enum whose members each have a word, for counters and logs.
macro_rules! closed_set {
    ($(#[$about:meta])* pub enum $Set:ident { $($(#[$member_about:meta])* $Member:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Set {
            $($(#[$member_about])* $Member,)+
        }

        impl $Set {
            /// Every member, in order.
            pub const ALL: &[Self] = &[$(Self::$Member),+];

            /// Their words, in the same order.
            pub const WORDS: &[&str] = &[$($word),+];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$Member => $word),+
                }
            }
        }
    };
}

pub(crate) use closed_set;
