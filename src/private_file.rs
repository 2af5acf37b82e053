//! Files that only their owner may read: keys, codes, databases with card data.
//!
//! A file is there whole or not at all, also after a power cut. Nothing here knows what the files
//! hold, encrypts them, or locks them against other processes of the same owner. On systems without
//! Unix permissions, files are still whole, but not private.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::io_error_text::io_error_text;

/// The longest file that [`read`] takes, in octets: far more than any key or card file has, and far
/// less than the memory of a Pi.
pub const FILE_OCTETS_MAX: u64 = 1024 * 1024;

/// Why a private file cannot be read or written. Never holds what is in the file.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Group or others have access to it.
    #[error(
        "other users can read or change {path} (mode {mode:03o}); run `chmod {expected:o} \
         '{path}'`, and replace any secrets in it",
        path = path.display()
    )]
    OpenToOthers {
        /// A file or a directory.
        path: PathBuf,
        mode: u32,
        /// What they should be.
        expected: u32,
    },
    /// A file of that name exists already, and it was to be a new one.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} is longer than {FILE_OCTETS_MAX} octets, so it is not the file that belongs there",
        .0.display()
    )]
    TooLong(PathBuf),
    #[error("{} is not text (UTF-8), so it is not the file that belongs there", .0.display())]
    NotText(PathBuf),
    #[error("`{}` is not the path of a file", .0.display())]
    NoFileName(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} {}: {}", path.display(), io_error_text(source))]
    System { action: &'static str, path: PathBuf, source: io::Error },
}

impl PrivateFileError {
    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Creates a directory that only its owner may enter (mode 700), and its parents with the system's
/// default mode. An existing directory stays, if others cannot enter it.
///
/// # Errors
/// [`PrivateFileError::OpenToOthers`] for an existing one that others may enter;
/// [`PrivateFileError::System`].
pub fn create_directory(path: &Path) -> Result<(), PrivateFileError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(system("create", parent))?;
    }
    match private_directory_builder().create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            let metadata = fs::metadata(path).map_err(system("examine", path))?;
            refuse_open_to_others(path, &metadata, 0o700)
        }
        Err(error) => Err(system("create", path)(error)),
    }
}

/// Puts `contents` at `path`, in place of what may be there: any reader, also after a power cut,
/// finds the whole old file or the whole new one. Only the owner may read it (mode 600).
///
/// # Errors
/// [`PrivateFileError::System`]; the old file is then untouched.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), PrivateFileError> {
    write_beside(path, contents, |beside| fs::rename(beside, path).map_err(system("replace", path)))
}

/// As [`replace`], but never over an existing file.
///
/// # Errors
/// [`PrivateFileError::Exists`]; [`PrivateFileError::System`].
pub fn create(path: &Path, contents: &[u8]) -> Result<(), PrivateFileError> {
    // A hard link fails where the name is taken, which a rename does not.
    write_beside(path, contents, |beside| {
        fs::hard_link(beside, path).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                PrivateFileError::Exists(path.to_path_buf())
            } else {
                system("create", path)(error)
            }
        })?;
        fs::remove_file(beside).map_err(system("remove", beside))
    })
}

/// Reads a file that only its owner may read. The octets are erased from memory when dropped.
///
/// # Errors
/// [`PrivateFileError::OpenToOthers`]; [`PrivateFileError::TooLong`]; [`PrivateFileError::System`].
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let file = File::open(path).map_err(system("open", path))?;
    // Of the opened file, so that nobody can exchange it between the check and the reading.
    let metadata = file.metadata().map_err(system("examine", path))?;
    refuse_open_to_others(path, &metadata, 0o600)?;
    if metadata.len() > FILE_OCTETS_MAX {
        return Err(PrivateFileError::TooLong(path.to_path_buf()));
    }
    // The capacity at once: a vector that grows leaves copies of the secret behind.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut contents = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut contents).map_err(system("read", path))?;
    if contents.len() as u64 > FILE_OCTETS_MAX {
        return Err(PrivateFileError::TooLong(path.to_path_buf()));
    }
    Ok(contents)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and [`PrivateFileError::NotText`].
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, PrivateFileError> {
    let contents = read(path)?;
    let text = std::str::from_utf8(&contents)
        .map_err(|_| PrivateFileError::NotText(path.to_path_buf()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Ensures that there is a file (empty, if there was none) that only its owner may read. This is
/// for a database, which gives its side files the permissions of its main file.
///
/// # Errors
/// [`PrivateFileError::OpenToOthers`]; [`PrivateFileError::System`].
pub fn ensure(path: &Path) -> Result<(), PrivateFileError> {
    match create(path, &[]) {
        Ok(()) => Ok(()),
        Err(PrivateFileError::Exists(_)) => {
            let metadata = fs::metadata(path).map_err(system("examine", path))?;
            refuse_open_to_others(path, &metadata, 0o600)
        }
        Err(error) => Err(error),
    }
}

/// Makes the names in the directory of `path` durable.
///
/// # Errors
/// [`PrivateFileError::System`].
pub fn sync_parent(path: &Path) -> Result<(), PrivateFileError> {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Directories cannot be opened as files everywhere; there the system orders names by itself.
    if cfg!(unix) {
        let directory = File::open(parent).map_err(system("open", parent))?;
        directory.sync_all().map_err(system("synchronise", parent))?;
    }
    Ok(())
}

/// Writes and synchronises a new file next to `path` and has it put in place. Leaves nothing
/// behind if that fails.
fn write_beside(
    path: &Path,
    contents: &[u8],
    put_in_place: impl FnOnce(&Path) -> Result<(), PrivateFileError>,
) -> Result<(), PrivateFileError> {
    /// Two threads that write the same file must not share the file beside it.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| PrivateFileError::NoFileName(path.to_path_buf()))?;
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let beside =
        path.with_file_name(format!(".{}.{}.{number}.new", name.display(), std::process::id()));
    // An earlier process of the same id, killed while it wrote, may have left one.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(system("remove", &beside)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let written = new_file_options()
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .map_err(system("write", &beside))
        .and_then(|()| put_in_place(&beside));
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    sync_parent(path)
}

fn system<'path>(
    action: &'static str,
    path: &'path Path,
) -> impl Fn(io::Error) -> PrivateFileError + use<'path> {
    move |source| PrivateFileError::System { action, path: path.to_path_buf(), source }
}

/// Options that create a file which only its owner can read, and which did not exist.
#[cfg(unix)]
pub fn new_file_options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// Options that create a file which did not exist.
#[cfg(not(unix))]
pub fn new_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

#[cfg(unix)]
fn private_directory_builder() -> fs::DirBuilder {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(not(unix))]
fn private_directory_builder() -> fs::DirBuilder {
    fs::DirBuilder::new()
}

#[cfg(unix)]
fn refuse_open_to_others(
    path: &Path,
    metadata: &fs::Metadata,
    expected: u32,
) -> Result<(), PrivateFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(PrivateFileError::OpenToOthers { path: path.to_path_buf(), mode, expected })
}

#[cfg(not(unix))]
fn refuse_open_to_others(_: &Path, _: &fs::Metadata, _: u32) -> Result<(), PrivateFileError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_reads_back_and_is_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        create_directory(&inner).unwrap();
        create_directory(&inner).unwrap();
        assert_eq!(mode_of(&inner), 0o700);
        let path = inner.join("key.pem");
        create(&path, b"one").unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(read(&path).unwrap().as_slice(), b"one");
        replace(&path, b"two").unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(read_text(&path).unwrap().as_str(), "two");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn a_new_file_never_overwrites() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        create(&path, b"one").unwrap();
        assert!(matches!(create(&path, b"two"), Err(PrivateFileError::Exists(_))));
        assert_eq!(read(&path).unwrap().as_slice(), b"one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        ensure(&path).unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"one");
    }

    #[test]
    fn what_others_may_read_is_refused_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        create(&path, b"secret").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
            assert!(!error.contains("secret'"), "{error}");
            assert!(ensure(&path).is_err());
        }
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(create_directory(&open).unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn faults_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nothing");
        let error = read(&path).unwrap_err();
        assert!(error.is_not_found());
        assert!(error.to_string().contains("nothing"));
        fs::write(&path, vec![0xff; usize::try_from(FILE_OCTETS_MAX).unwrap() + 1]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::TooLong(_))));
        replace(&path, &[0xff]).unwrap();
        assert!(matches!(read_text(&path), Err(PrivateFileError::NotText(_))));
        assert!(matches!(create(Path::new("/"), b""), Err(PrivateFileError::NoFileName(_))));
    }
}
