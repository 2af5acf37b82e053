//! On which machine the terminal was enrolled, to notice a disk that moved or was copied.
//!
//! Kept beside the enrolment: a digest for each thing by which a machine can be told from others,
//! as far as every user may read it. What could not be read then or now is not compared.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::EnrolmentError;
use super::encoding::written;
use crate::private_file;

/// The file beside the enrolment.
const MACHINE_FILE: &str = "machine.toml";

/// Where systemd keeps what it calls the machine's id: it is the installation's.
const MACHINE_ID: &str = "etc/machine-id";
/// The serial number of a board with a device tree, such as a Raspberry Pi.
const BOARD_SERIAL: &str = "sys/firmware/devicetree/base/serial-number";

/// A machine, by digests of what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Machine {
    /// Of the installation; none if there is no such file.
    #[serde(skip_serializing_if = "Option::is_none")]
    installation: Option<String>,
    /// Of the board; none if it does not say its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<String>,
}

impl Machine {
    /// This machine, whose root directory this is.
    pub(in super::super) fn read(root: &Path) -> Self {
        let digest = |file: &str| {
            let octets = fs::read(root.join(file)).ok()?;
            let text = String::from_utf8_lossy(&octets);
            let text =
                text.trim_matches(|character: char| character == '\0' || character.is_whitespace());
            let digest = Sha256::new().chain_update("florin machine ").chain_update(text);
            (!text.is_empty()).then(|| data_encoding::HEXLOWER.encode(&digest.finalize()))
        };
        Self { installation: digest(MACHINE_ID), board: digest(BOARD_SERIAL) }
    }

    /// The machine on which the terminal was enrolled; none if nobody noted it.
    pub(in super::super) fn enrolled(state_directory: &Path) -> Option<Self> {
        let text = private_file::read_text(&state_directory.join(MACHINE_FILE)).ok()?;
        toml::from_str(&text).ok()
    }

    /// Notes that the terminal was enrolled on this machine.
    ///
    /// # Errors
    /// [`EnrolmentError::File`].
    pub(super) fn note(&self, state_directory: &Path) -> Result<(), EnrolmentError> {
        private_file::replace(&state_directory.join(MACHINE_FILE), &written(self)?)?;
        Ok(())
    }

    /// What is another one here than where the terminal was enrolled; none if it is this machine.
    pub(in super::super) fn difference(&self, enrolled: &Self) -> Option<&'static str> {
        let differs = |here: &Option<String>, then: &Option<String>| {
            here.as_ref().zip(then.as_ref()).is_some_and(|(here, then)| here != then)
        };
        if differs(&self.board, &enrolled.board) {
            Some("the board")
        } else if differs(&self.installation, &enrolled.installation) {
            Some("the installation (/etc/machine-id)")
        } else {
            None
        }
    }
}

/// What to do where a disk has moved, in words for the operator; none if it has not.
pub(in super::super) fn moved_machine(state_directory: &Path) -> Option<String> {
    let difference =
        Machine::read(Path::new("/")).difference(&Machine::enrolled(state_directory)?)?;
    Some(format!(
        "this terminal was enrolled on another machine: {difference} is another one. If its disk \
         or memory card was copied, two machines sell under one identity, and the institution will \
         refuse both. Ask the institution for a new code, and give this machine keys of its own: \
         `florin enrol --replace --new-channel-key`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: Option<&str>, serial: Option<&str>) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [(MACHINE_ID, id), (BOARD_SERIAL, serial)] {
            if let Some(text) = text {
                let path = root.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        Machine::read(root.path())
    }

    #[test]
    fn another_machine_is_noticed_by_what_both_say() {
        let here = machine(Some("a1\n"), Some("10000000deadbeef\0"));
        assert_eq!(here.difference(&here), None);
        assert_eq!(here, machine(Some("a1"), Some("10000000deadbeef")));
        let copied_card = machine(Some("a1"), Some("10000000cafebabe\0"));
        assert_eq!(copied_card.difference(&here), Some("the board"));
        let moved = machine(Some("b2"), None);
        assert!(moved.difference(&here).unwrap().contains("machine-id"));
        // What cannot be read on either side says nothing.
        for silent in [machine(None, None), machine(Some(""), Some("\0"))] {
            assert_eq!(silent.difference(&here), None);
            assert_eq!(here.difference(&silent), None);
        }
    }

    #[test]
    fn the_machine_is_noted_without_what_it_says_of_itself() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Machine::enrolled(state.path()), None);
        let here = machine(Some("secret-machine-id"), Some("10000000deadbeef"));
        here.note(state.path()).unwrap();
        assert_eq!(Machine::enrolled(state.path()), Some(here));
        let text = fs::read_to_string(state.path().join(MACHINE_FILE)).unwrap();
        assert!(!text.contains("secret-machine-id") && !text.contains("deadbeef"), "{text}");
    }
}
