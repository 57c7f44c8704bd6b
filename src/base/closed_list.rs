//! PURE. Closed lists: enums that have one row per variant, from which the enum, its words and the list of all come.

/// Makes an enum in which each variant has a word, with `ALL` (every variant, in the order of the rows) and a function
/// from the variant to its word.
macro_rules! closed_list {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }

        $(#[$word_meta:meta])*
        fn $word_of:ident;
    ) => {
        $(#[$meta])*
        $visibility enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of the rows.
            $visibility const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            $(#[$word_meta])*
            $visibility const fn $word_of(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

pub(crate) use closed_list;
