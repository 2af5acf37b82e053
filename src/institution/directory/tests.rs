//! An institution's directory: what is made, what is refused, what is found damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::key_files::sealing_key_to_pem;
use super::layout::{
    AUTHORITY_FILE, KEYS_DIRECTORY, RECEIPT_KEY_FILE, ROOT_KEY_FILE, SEALING_KEY_FILE, STORE_FILE,
};
use super::*;
use crate::credential::SealingKey;
use crate::domain::UnixTime;
use crate::private_file;

const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };

fn hosts() -> Vec<String> {
    vec!["localhost".to_owned()]
}

#[test]
fn an_institution_opens_again_with_the_same_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank");
    create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
    let first = open_institution(&path).unwrap();
    let second = open_institution(&path).unwrap();
    assert_eq!(first.institution.keys().keyring(), second.institution.keys().keyring());
    assert_eq!((first.name.as_str(), first.host_names), ("Example Bank", hosts()));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside");
}

#[test]
fn a_name_that_nobody_can_see_makes_no_institution() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank");
    for (name, words) in [("", "got 0"), ("\u{200b}", "U+200B"), ("Ba\u{202e}nk", "character 3")] {
        let refused = create_institution(&path, name, &hosts(), NOW).unwrap_err().to_string();
        assert!(refused.contains("name") && refused.contains(words), "{refused}");
        assert!(!path.exists());
    }
}

#[test]
fn everything_is_the_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank");
    create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(KEYS_DIRECTORY)), 0o700);
    let mut keys = 0;
    for file in fs::read_dir(path.join(KEYS_DIRECTORY)).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        keys += 1;
    }
    assert_eq!(keys, 5);
    assert_eq!(mode(&path.join(STORE_FILE)), 0o600);
    let receipt_key = path.join(KEYS_DIRECTORY).join(RECEIPT_KEY_FILE);
    fs::set_permissions(&receipt_key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open_institution(&path).unwrap_err().to_string().contains("chmod 600"));
}

#[test]
fn nothing_is_made_twice_and_nothing_is_made_over_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank");
    create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
    let again = create_institution(&path, "Other", &hosts(), NOW);
    assert!(matches!(again, Err(DirectoryError::Initialised(_))));
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    create_institution(&other, "Example Bank", &hosts(), NOW).unwrap();
    let full = directory.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "").unwrap();
    assert!(matches!(
        create_institution(&full, "Bank", &hosts(), NOW),
        Err(DirectoryError::NotEmpty(_))
    ));
    assert!(create_institution(&directory.path().join("a"), "", &hosts(), NOW).is_err());
    assert!(
        create_institution(&directory.path().join("b"), "Bank", &["a b".to_owned()], NOW).is_err()
    );
    assert!(!directory.path().join("b").exists());
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank");
    let error = open_institution(&path).unwrap_err().to_string();
    assert!(error.contains("florin-acquirer init"), "{error}");
    create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
    let sealing = path.join(KEYS_DIRECTORY).join(SEALING_KEY_FILE);
    let good = private_file::read(&sealing).unwrap();
    private_file::replace(&sealing, b"x").unwrap();
    assert!(open_institution(&path).unwrap_err().to_string().contains("sealing-key.pem"));
    let other = SealingKey::from_octets([1; 32]);
    private_file::replace(&sealing, sealing_key_to_pem(&other).as_bytes()).unwrap();
    assert!(matches!(open_institution(&path), Err(DirectoryError::Keys { .. })));
    private_file::replace(&sealing, &good).unwrap();
    fs::set_permissions(path.join(AUTHORITY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
    // The root key may be elsewhere; the store may not.
    fs::remove_file(path.join(KEYS_DIRECTORY).join(ROOT_KEY_FILE)).unwrap();
    open_institution(&path).unwrap();
    fs::remove_file(path.join(STORE_FILE)).unwrap();
    assert!(matches!(open_institution(&path), Err(DirectoryError::Damaged { .. })));
}
