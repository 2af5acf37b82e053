//! File systems that a power cut forgets. A journal on one of them is no journal.

use std::path::Path;

/// The numbers of such file systems (statfs(2)), with their names.
const VOLATILE: [(u32, &str); 3] =
    [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlay")];

/// The name of the file system under `path`, or under the place where that will be, if a power cut
/// forgets what is on it. An overlay counts: what is written to it is nearly always kept in memory.
pub(super) fn volatile_file_system(path: &Path) -> Option<&'static str> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let number = rustix::fs::statfs(there).ok()?.f_type;
    name_of(number.try_into().ok()?)
}

fn name_of(number: u64) -> Option<&'static str> {
    VOLATILE.into_iter().find(|(known, _)| u64::from(*known) == number).map(|(_, name)| name)
}

/// What is wrong with a state directory there, and what to do.
pub(super) fn volatile_storage_problem(path: &Path, file_system: &str) -> String {
    format!(
        "the state directory {} is on {file_system}, which a power cut forgets, and open payments \
         with it: mount a disk or card there, or name a directory on one ([terminal] \
         state_directory). If what {file_system} holds survives a power cut here, say so \
         ([terminal] volatile_state = \"allow\")",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_cut_forgets_is_known_by_its_number() {
        assert_eq!(name_of(0x0102_1994), Some("tmpfs"));
        assert_eq!(name_of(0x8584_58f6), Some("ramfs"));
        assert_eq!(name_of(0x794c_7630), Some("overlay"));
        assert_eq!(name_of(0xef53), None, "ext4");
        // The kernel's shared memory is a tmpfs on every Linux.
        if Path::new("/dev/shm").exists() {
            assert_eq!(volatile_file_system(Path::new("/dev/shm/not/there/yet")), Some("tmpfs"));
        }
    }
}
