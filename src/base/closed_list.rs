//! PURE. Closed lists: an enum, all of its variants and the words for each, written once.

/// Declares an enum together with `ALL` and one row of words per variant, which the private `row` returns.
///
/// A variant cannot be missing from `ALL`, and cannot be without its row.
macro_rules! closed_list {
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
