//! PURE. Closed lists: enums that have one row per variant, from which the enum, its words and the list of all come.

/// Declares an enum from one row per variant, with `ALL`, every variant in the order of the rows. No variant can be missing
/// from it.
///
/// `Variant = "word"` gives a function from the variant to its word. `Variant => expression`, in an enum with the type of a row
/// behind its name, gives a private function `row` from the variant to that expression.
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
            /// Every variant, in the order of declaration.
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
