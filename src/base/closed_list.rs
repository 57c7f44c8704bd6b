//! PURE. Closed lists: enums declared with one row per variant, which defines the variant, its word and its place in
//! the list.

/// Declares an enum from one row per variant, with a constant `ALL` that lists every variant in the order of the rows
/// and cannot miss one.
///
/// Rows of the form `Variant = "word"` define a function from the variant to its word. Rows of the form
/// `Variant => expression`, in an enum whose name is followed by the type of a row, define a private function `row`
/// from the variant to that expression.
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
    (
        $(#[$about:meta])*
        $visibility:vis enum $name:ident: $row:ty {
            $($(#[$meaning:meta])* $variant:ident => $words:expr,)+
        }
    ) => {
        $(#[$about])*
        $visibility enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of the rows.
            $visibility const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];

            const fn row(self) -> $row {
                match self {
                    $(Self::$variant => $words,)+
                }
            }
        }
    };
}

pub(crate) use closed_list;
