//! What must hold for any bytes read as the settings file.

use std::{fs, iter, path::Path};

use checkind::settings::{self, changes_needing_restart};

/// The longest message for one fault, in bytes.
const A_SCREENFUL: usize = 8 * 1024;

/// Panics when the settings break a promise. Overwrites `file`, which must be alone in its folder.
pub(crate) fn check(bytes: &[u8], file: &Path) {
    fs::write(file, bytes).expect("a file for the settings");
    match settings::load(Some(file), iter::empty()) {
        Ok(loaded) => {
            assert!(!settings::summary(&loaded.settings).is_empty());
            let again = settings::load(Some(file), iter::empty()).expect("the same settings load again");
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
