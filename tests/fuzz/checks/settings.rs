//! What must hold for any bytes read as the settings file.

use std::{path::Path, sync::LazyLock};

use checkind::settings::{self, changes_needing_restart, zones::Zones};

/// The longest message for one fault, in bytes.
const A_SCREENFUL: usize = 8 * 1024;

/// The zone data, opened once: to look through its folder takes longer than everything else.
static ZONES: LazyLock<Zones> = LazyLock::new(|| Zones::open(None));

/// Panics when the settings break a promise. `file` need not exist.
pub(crate) fn check(bytes: &[u8], file: &Path) {
    let load = || settings::load_bytes(file, bytes, ZONES.clone());
    match load() {
        Ok(loaded) => {
            assert!(!settings::summary(&loaded.settings).is_empty());
            let again = load().expect("the same settings load again");
            assert_eq!(changes_needing_restart(&loaded.settings, &again.settings), [""; 0]);
        }
        Err(faults) => {
            assert!(!faults.faults().is_empty());
            for fault in faults.faults() {
                assert!(!fault.head().is_empty() && !fault.head().contains('\n'), "{fault}");
                assert!(fault.to_string().len() <= A_SCREENFUL, "{fault}");
            }
        }
    }
}
