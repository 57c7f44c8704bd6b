//! Gives up root's rights before a command opens the database.
//!
//! Root must not open, create or change files in a folder that another user controls: that user can put a link in the
//! place of any file, and root would follow it. So a command that root runs becomes the user who controls the path,
//! after it has read the settings and whatever else only root can read.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

/// The most links on the way to a file, as in the kernel (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// The group of a user whose folder has root's group: nogroup.
const NO_GROUP: u32 = 65534;

/// Write permission for others than the owner.
const OTHERS_WRITE: u32 = 0o022;

/// In such a folder only the owner of an entry may remove or rename it.
const STICKY: u32 = 0o1000;

/// Why root does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccountError {
    /// Several users can put links into a folder, so there is no single user to become.
    #[error(
        "{} can be written by others than root, who could make root follow their links; run this as the user whose \
         database it is, or make that user the only owner of the folder",
        .0.display()
    )]
    Shared(PathBuf),
    /// The path cannot be followed.
    #[error("cannot find out who owns the way to {}", .0.display())]
    Way(PathBuf, #[source] io::Error),
    /// The kernel refused, or the rights are still there.
    #[error("root cannot become user {0}, who owns the folder of the database; run this as that user")]
    Refused(u32, #[source] io::Error),
}

/// A right of root to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// None.
    Nothing,
    /// `CAP_NET_RAW`, for captures.
    Captures,
}

/// Who decides where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum PathController {
    Root,
    User {
        uid: u32,
        gid: u32,
    },
    /// More than one, by this folder.
    Several(PathBuf),
}

/// If root runs this, becomes the user who controls the path of this file; it is then like a command of that user.
/// Must be called while the process has only one thread: it changes the rights of the calling thread, which later
/// threads inherit.
pub(super) fn become_owner(file: &Path, keep: Keep) -> Result<(), AccountError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    match controller(file).map_err(|error| AccountError::Way(file.to_owned(), error))? {
        PathController::Root => Ok(()),
        PathController::Several(folder) => Err(AccountError::Shared(folder)),
        PathController::User { uid, gid } => {
            become_user(uid, gid, &[], keep).map_err(|error| AccountError::Refused(uid, error))
        }
    }
}

/// Refuses a file for which another user than root decides where its path leads, if root runs this.
pub(super) fn must_be_roots(file: &Path) -> Result<(), AccountError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    match controller(file).map_err(|error| AccountError::Way(file.to_owned(), error))? {
        PathController::Root => Ok(()),
        PathController::User { .. } => Err(AccountError::Shared(file.parent().unwrap_or(file).to_owned())),
        PathController::Several(folder) => Err(AccountError::Shared(folder)),
    }
}

/// Follows a path to its end as the kernel would, and stops at the first folder or link that is not root's: its owner
/// decides what comes after it. Where everything is root's, no other user can change the way afterwards.
fn controller(file: &Path) -> io::Result<PathController> {
    let mut at = PathBuf::from("/");
    let mut left = parts(&std::path::absolute(file)?);
    let mut links = 0;
    while let Some(part) = left.pop() {
        let folder = fs::symlink_metadata(&at)?;
        let is_shared = folder.mode() & OTHERS_WRITE != 0;
        // In a sticky folder the way goes on safely through what is root's; but new files would not be safe there.
        if is_shared && (folder.mode() & STICKY == 0 || left.is_empty()) {
            return Ok(PathController::Several(at));
        }
        if part == ".." {
            at.pop();
            continue;
        }
        let path = at.join(&part);
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(if is_shared { PathController::Several(at) } else { PathController::Root });
            }
            found => found?,
        };
        // The file itself may be another user's: in a folder of root only root can replace it.
        if found.uid() != 0 && (found.is_dir() || found.is_symlink()) {
            // A member of root's group could do more than the user.
            let gid = if found.gid() == 0 { NO_GROUP } else { found.gid() };
            return Ok(PathController::User { uid: found.uid(), gid });
        }
        if found.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = fs::read_link(&path)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            left.extend(parts(&target));
        } else {
            at = path;
        }
    }
    Ok(PathController::Root)
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// Becomes another user for good: real, effective and saved.
pub(super) fn become_user(uid: u32, gid: u32, groups: &[u32], keep: Keep) -> io::Result<()> {
    // Another thread would keep root's rights.
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(io::Error::other("the process already has several threads"));
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(keep == Keep::Captures)?;
    set_thread_groups(&groups.iter().copied().map(Gid::from_raw).collect::<Vec<_>>())?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    let kept = match keep {
        Keep::Nothing => CapabilitySet::empty(),
        Keep::Captures => CapabilitySet::NET_RAW,
    };
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    set_keep_capabilities(false)?;
    // If this succeeded, nothing above would have helped.
    if set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() || geteuid().is_root() {
        return Err(io::Error::other("root's rights can be taken back"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    const ANN: u32 = 64_001;

    /// A tree in which root, and only root, decides, to be changed by each case.
    fn tree() -> Option<tempfile::TempDir> {
        if !geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("safe/data")).expect("folders");
        fs::create_dir_all(folder.path().join("ann/data")).expect("folders");
        for mine in ["ann", "ann/data"] {
            chown(folder.path().join(mine), Some(ANN), Some(ANN + 1)).expect("hers");
        }
        Some(folder)
    }

    #[test]
    fn the_first_on_the_way_who_is_not_root_decides_where_it_leads() {
        let Some(folder) = tree() else { return };
        let at = |name: &str| folder.path().join(name);
        let ann = PathController::User { uid: ANN, gid: ANN + 1 };
        symlink(at("safe/data"), at("ann/to-safe")).expect("a link");
        std::os::unix::fs::lchown(at("ann/to-safe"), Some(ANN), Some(ANN + 1)).expect("hers");
        symlink("../ann/data", at("safe/to-ann")).expect("a link");
        symlink(at("safe/data/real.db"), at("safe/data/link.db")).expect("a link");
        symlink("loop", at("safe/loop")).expect("a link");
        fs::create_dir(at("ann/of-safe")).expect("a folder of root in hers");
        for (path, expected) in [
            ("safe/data/new.db", &PathController::Root),
            ("safe/data/link.db", &PathController::Root),
            ("safe/nowhere/new.db", &PathController::Root),
            ("ann/data/new.db", &ann),
            ("ann/to-safe/new.db", &ann),
            ("ann/of-safe/new.db", &ann),
            ("safe/to-ann/new.db", &ann),
            ("safe/to-ann/../../safe/data/new.db", &ann),
            ("safe/../safe/./data/new.db", &PathController::Root),
        ] {
            assert_eq!(controller(&at(path)).expect(path), *expected, "{path}");
        }
        controller(&at("safe/loop/new.db")).expect_err("a circle of links");
    }

    #[test]
    fn a_folder_that_several_can_write_is_for_no_root() {
        let Some(folder) = tree() else { return };
        let data = folder.path().join("safe/data");
        let set = |mode| fs::set_permissions(&data, fs::Permissions::from_mode(mode)).expect("its mode");
        fs::create_dir(data.join("within")).expect("a folder");
        for (mode, directly, within) in
            [(0o755, true, true), (0o775, false, false), (0o757, false, false), (0o1777, false, true)]
        {
            set(mode);
            let several = PathController::Several(data.clone());
            for (path, safe) in [("new.db", directly), ("within/new.db", within)] {
                let expected = if safe { &PathController::Root } else { &several };
                assert_eq!(controller(&data.join(path)).expect(path), *expected, "{mode:o} {path}");
            }
        }
    }

    #[test]
    fn roots_group_is_not_inherited() {
        let Some(folder) = tree() else { return };
        chown(folder.path().join("ann"), Some(ANN), Some(0)).expect("root's group");
        let expected = PathController::User { uid: ANN, gid: NO_GROUP };
        assert_eq!(controller(&folder.path().join("ann/new.db")).expect("followed"), expected);
    }
}
