//! Free space on the disk of the database or the spool: a gauge, and a condition before it runs out. Also reads and
//! replaces small files, and names what lies beside a file.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::fs::OFlags;
use tokio_util::sync::CancellationToken;

use crate::base::{
    health::{ConditionKind, Health},
    turns::Turn,
};

/// How often the free space is checked. Even a flood writes only a few megabytes a second, far less than [`LOW`]
/// between two checks.
const EVERY: Duration = Duration::from_secs(30);

/// The condition is raised below this many free bytes. A busy site writes about 10 MB a day, so this is nearly a
/// month's warning.
const LOW: u64 = 256 * 1024 * 1024;

/// Replaces a small file as a whole or not at all: if the process ends meanwhile, the old file is intact.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).custom_flags(PLAIN).open(&new)?;
    only_a_file(&file)?;
    let replaced = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        // The disk may be full. The error to report is the first one.
        let _removed = fs::remove_file(&new);
    }
    replaced
}

/// Flags for files beside our data, where another user may have put something else: a link is not followed, and a pipe
/// makes no one wait.
pub const PLAIN: i32 = (OFlags::NOFOLLOW.bits() | OFlags::NONBLOCK.bits()).cast_signed();

/// Reads a small file.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(PLAIN).open(path)?;
    only_a_file(&file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses what was opened with [`PLAIN`] and is no ordinary file.
pub fn only_a_file(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("it is not an ordinary file; remove it")) }
}

/// Whether a file is also known by another name: a symbolic link, or one of several hard links.
pub fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_symlink() || (found.is_file() && found.nlink() > 1))
}

/// The folder of a file.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path with this text after its last character.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The figures of the disk, for the metrics.
#[derive(Debug, Default)]
pub struct DiskFigures {
    /// Bytes that this process may still use.
    pub free: AtomicU64,
}

/// Says what would give space back; asked only while space is low.
pub type SpaceAdvice = Box<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// Checks the disk of `folder` until stopped.
pub async fn run(
    folder: PathBuf,
    figures: Arc<DiskFigures>,
    advice: SpaceAdvice,
    health: Health,
    turn: Turn,
    stop: CancellationToken,
) {
    loop {
        // A disk that hangs stops this part only, which is then named.
        turn.works();
        let asked = folder.clone();
        let answer = tokio::task::spawn_blocking(move || free(&asked)).await;
        turn.rests(EVERY);
        match answer.unwrap_or_else(|fault| Err(io::Error::other(fault))) {
            Ok(free) => {
                figures.free.store(free, Relaxed);
                if is_low(free, &health) {
                    let megabytes = free / 1_000_000;
                    let detail = format!(
                        "{} has only {megabytes} MB left; when it is full, door messages wait at the broker. {}",
                        folder.display(),
                        advice().await
                    );
                    health.raise_once(ConditionKind::DiskLow, "", detail);
                } else {
                    health.clear(ConditionKind::DiskLow, "");
                }
            }
            Err(error) => tracing::debug!(%error, "could not read the free disk space"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Whether the condition holds. It ends only with a quarter more space, to avoid flapping.
fn is_low(free: u64, health: &Health) -> bool {
    free < if health.is_raised(ConditionKind::DiskLow, "") { LOW + LOW / 4 } else { LOW }
}

/// The bytes on the disk of `folder` that this process may still use.
pub fn free(folder: &Path) -> io::Result<u64> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    #[test]
    fn a_disk_that_is_nearly_full_is_named_until_there_is_clearly_room() {
        let health = Health::new(Clock::system());
        for (free, low) in [(LOW, false), (LOW - 1, true), (LOW + 1, true), (LOW + LOW / 4, false), (LOW, false)] {
            assert_eq!(is_low(free, &health), low, "{free}");
            if low {
                health.raise(ConditionKind::DiskLow, "", String::new());
            } else {
                health.clear(ConditionKind::DiskLow, "");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        replace(&file, b"old").expect("replaced");
        replace(&file, b"new").expect("replaced");
        assert_eq!(read_small(&file).expect("read"), b"new");
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("full")).expect("a folder");
        replace(&taken, b"new").expect_err("a folder is in its place");
        let mut left: Vec<_> =
            fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
        left.sort();
        assert_eq!(left, [file, taken]);
    }

    #[test]
    fn the_room_of_this_disk_is_known() {
        assert!(free(Path::new("")).expect("a disk") > 0);
        assert!(free(Path::new("/nonexistent")).is_err());
    }
}
