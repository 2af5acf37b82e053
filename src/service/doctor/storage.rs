//! The state directory: whose it is, who may enter it, and the disk under it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::super::ServiceExit;
use super::super::configuration::JOURNAL_FILE;
use super::super::volatile_storage::{volatile_file_system, volatile_storage_problem};
use super::{Finding, Verdict};
use crate::io_error_text::io_error_text;

/// With less than this free, in octets, the terminal may soon be unable to take payments: 64 MiB.
/// The same goes for less than the journal's size: after a disk fault it is written anew beside
/// itself.
const FREE_WRONG: u64 = 64 << 20;
/// With less than this free, in octets, space should be freed in time: 512 MiB hold the payments of
/// years, but logs fill them sooner.
const FREE_ADVICE: u64 = 512 << 20;

/// What the files are like, and whether this process runs as their owner.
pub(super) struct Files {
    pub(super) finding: Finding,
    pub(super) is_owner: bool,
}

/// Examines the state directory and each file in it.
pub(super) fn files(state_directory: &Path) -> Files {
    let check = "state_directory";
    let name = state_directory.display();
    let metadata = match std::fs::metadata(state_directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let finding = Finding::fine(check, format!("`florin enrol` will create {name}"));
            return Files { finding, is_owner: true };
        }
        Err(error) => {
            let detail = format!(
                "cannot look into {name}: {}; run this as the service's user: `sudo -u florin \
                 florin doctor`",
                io_error_text(&error)
            );
            return Files {
                finding: Finding::wrong(check, detail, ServiceExit::Journal),
                is_owner: false,
            };
        }
    };
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        let detail = format!(
            "{name} belongs to user {}, and this runs as user {user}; run it as the service's \
             user: `sudo -u florin florin doctor`",
            metadata.uid()
        );
        return Files {
            finding: Finding::wrong(check, detail, ServiceExit::Journal),
            is_owner: false,
        };
    }
    let mut faults: Vec<String> =
        fault(state_directory, &metadata, user, 0o700).into_iter().collect();
    match std::fs::read_dir(state_directory) {
        Ok(entries) => {
            for entry in entries.flatten() {
                let path = entry.path();
                // A file that is gone by now has no fault.
                let Ok(metadata) = entry.metadata() else { continue };
                let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
                faults.extend(fault(&path, &metadata, user, expected));
            }
        }
        Err(error) => faults.push(format!("cannot list {name}: {}", io_error_text(&error))),
    }
    let finding = if faults.is_empty() {
        Finding::fine(check, format!("only this user may read {name} and its files"))
    } else {
        Finding::wrong(check, faults.join("; "), ServiceExit::Journal)
    };
    Files { finding, is_owner: true }
}

fn fault(path: &Path, metadata: &Metadata, user: u32, expected: u32) -> Option<String> {
    let name = path.display();
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.uid() != user {
        Some(format!("'{name}' belongs to user {}; run `chown {user} '{name}'`", metadata.uid()))
    } else if mode & 0o077 != 0 {
        Some(format!(
            "other users can read or change '{name}' (mode {mode:03o}); run `chmod {expected:o} \
             '{name}'`, and replace any secrets in it"
        ))
    } else {
        None
    }
}

/// The disk under the state directory, or under the place where that will be.
pub(super) fn disk(state_directory: &Path, allows_volatile_state: bool) -> Finding {
    let there = state_directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let is_read_only = disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
            // Some file systems count no files; they say 0 of 0.
            let no_files_left = disk.f_files > 0 && disk.f_favail == 0;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let journal = journal_octets(state_directory);
            let found = disk_finding(there, free, journal, is_read_only, no_files_left);
            match volatile_file_system(state_directory) {
                Some(name) if !allows_volatile_state && found.verdict != Verdict::Wrong => {
                    let detail = volatile_storage_problem(state_directory, name);
                    Finding::wrong("disk", detail, ServiceExit::Journal)
                }
                Some(_) | None => found,
            }
        }
        Err(error) => Finding::wrong(
            "disk",
            format!(
                "cannot examine the disk under {}: {}; see the kernel's log (`dmesg`)",
                there.display(),
                io_error_text(&error.into())
            ),
            ServiceExit::Journal,
        ),
    }
}

/// The size of the journal and its log; what is not there counts as nothing.
fn journal_octets(state_directory: &Path) -> u64 {
    let octets =
        |name: String| std::fs::metadata(state_directory.join(name)).map_or(0, |file| file.len());
    octets(JOURNAL_FILE.into()).saturating_add(octets(format!("{JOURNAL_FILE}-wal")))
}

fn disk_finding(
    path: &Path,
    free: u64,
    journal: u64,
    is_read_only: bool,
    no_files_left: bool,
) -> Finding {
    let check = "disk";
    let name = path.display();
    let free_mib = free >> 20;
    if is_read_only {
        let detail = format!(
            "the file system of {name} is read-only; find the reason in the kernel's log \
             (`dmesg`): a failing SD card does this"
        );
        Finding::wrong(check, detail, ServiceExit::Journal)
    } else if no_files_left {
        let detail =
            format!("the file system of {name} takes no more files (`df --inodes`); remove some");
        Finding::wrong(check, detail, ServiceExit::Journal)
    } else if free < FREE_WRONG {
        let detail = format!("{free_mib} MiB are free under {name}; free more");
        Finding::wrong(check, detail, ServiceExit::Journal)
    } else if free < journal {
        let detail = format!(
            "{free_mib} MiB are free under {name}, and the journal has {} MiB: after a disk fault \
             it could not be written anew; free more, or make the journal smaller \
             (docs/operations.md)",
            journal >> 20
        );
        Finding::wrong(check, detail, ServiceExit::Journal)
    } else if free < FREE_ADVICE {
        Finding::advice(check, format!("{free_mib} MiB are free under {name}; free more"))
    } else {
        Finding::fine(check, format!("{free_mib} MiB are free under {name}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn what_others_may_read_is_named_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        assert_eq!(files(&state).finding.verdict, Verdict::Fine);
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
        fs::write(state.join("enrolment.toml"), "").unwrap();
        fs::set_permissions(state.join("enrolment.toml"), Permissions::from_mode(0o600)).unwrap();
        let good = files(&state);
        assert!(good.finding.verdict == Verdict::Fine && good.is_owner, "{:?}", good.finding);
        fs::set_permissions(state.join("enrolment.toml"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o750)).unwrap();
        let bad = files(&state).finding;
        assert_eq!((bad.verdict, bad.exit), (Verdict::Wrong, Some(ServiceExit::Journal)));
        assert!(
            bad.detail.contains("chmod 600") && bad.detail.contains("chmod 700"),
            "{}",
            bad.detail
        );
    }

    #[test]
    fn a_directory_of_another_user_is_not_entered() {
        // Root finds no directory that is surely another user's, so it is told that it is somebody
        // else.
        if rustix::process::geteuid().is_root() {
            let metadata = fs::metadata("/").unwrap();
            let fault = fault(Path::new("/"), &metadata, 12_345, 0o700).unwrap();
            assert!(fault.contains("chown 12345"), "{fault}");
        } else {
            let files = files(Path::new("/"));
            assert!(
                !files.is_owner && files.finding.detail.contains("sudo -u florin"),
                "{:?}",
                files.finding
            );
        }
    }

    #[test]
    fn a_disk_that_is_full_or_read_only_is_wrong_and_one_nearly_full_is_not_yet() {
        let verdict = |free, read_only, no_files| {
            disk_finding(Path::new("/"), free, 0, read_only, no_files).verdict
        };
        assert_eq!(verdict(FREE_ADVICE, false, false), Verdict::Fine);
        assert_eq!(verdict(FREE_ADVICE - 1, false, false), Verdict::Advice);
        assert_eq!(verdict(FREE_WRONG - 1, false, false), Verdict::Wrong);
        assert_eq!(verdict(FREE_ADVICE, true, false), Verdict::Wrong);
        assert_eq!(verdict(FREE_ADVICE, false, true), Verdict::Wrong);
        assert!(disk(Path::new("/nowhere/at/all"), true).detail.contains(" under /"));
        if Path::new("/dev/shm").exists() {
            let forgotten = disk(Path::new("/dev/shm"), false);
            assert_eq!(forgotten.verdict, Verdict::Wrong);
            assert!(forgotten.detail.contains("power cut"), "{}", forgotten.detail);
        }
        let beside_journal =
            |free, journal| disk_finding(Path::new("/"), free, journal, false, false);
        assert_eq!(beside_journal(2 * FREE_ADVICE, 2 * FREE_ADVICE).verdict, Verdict::Fine);
        let no_room = beside_journal(2 * FREE_ADVICE, 2 * FREE_ADVICE + 1);
        assert_eq!(no_room.verdict, Verdict::Wrong);
        assert!(no_room.detail.contains("could not be written anew"), "{}", no_room.detail);
    }

    #[test]
    fn the_journal_has_what_its_file_and_its_log_have() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(journal_octets(directory.path()), 0);
        fs::write(directory.path().join("journal.sqlite"), [0; 3]).unwrap();
        fs::write(directory.path().join("journal.sqlite-wal"), [0; 4]).unwrap();
        assert_eq!(journal_octets(directory.path()), 7);
    }
}
