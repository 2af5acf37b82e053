//! The wallet's files: cards and the payments that they made.
//!
//! ```text
//! <wallet>/                     mode 700
//!   cards/<name>/card.json      the institution's address, identifiers and public keys; limit,
//!                               validity
//!                key.pem        the card's private key (PKCS #8)
//!                counter        the last value that was used
//!                lock           locked while the counter or `card.json` is written
//!   payments/<transaction id>.json
//!   enrolments/<digest of the code>.pem    a key that is being enrolled
//! ```
//!
//! Every file is written whole or not at all, also in a power cut ([`crate::private_file`]). A card
//! whose counter cannot be read does not pay: starting over would repeat a value. Nothing here uses
//! the network.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::institution_channel::InstitutionContact;
use super::payment_store::{PaymentStore, StoreError};
use super::{Card, CardError, CardName, CardParts, PaymentRecord, PaymentRecordError, Reservation};
use crate::credential::{CardCommand, Signed, SigningKey, VerifyingKey};
use crate::domain::{Amount, AmountError, TransactionId, UnixTime};
use crate::private_file::{self, PrivateFileError};

/// Why the wallet's directory cannot be used. Never holds a key or a card's identifier.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file cannot be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// There is no card of that name.
    #[error("there is no card `{0}` in this wallet; `florin-wallet cards` lists its cards")]
    NoSuchCard(CardName),
    /// There is one of that name.
    #[error("there is a card `{0}` in this wallet already; give the new one another name")]
    CardExists(CardName),
    /// A file of a card is damaged.
    #[error("{}: {detail}; enrol the card again", path.display())]
    CardFile { path: PathBuf, detail: String },
    /// The counter cannot be trusted.
    #[error(
        "{}: {detail}. The card cannot pay without its counter, as no value may be used twice; \
         enrol it again",
        path.display()
    )]
    Counter { path: PathBuf, detail: &'static str },
    /// The file of a key that is being enrolled is damaged.
    #[error("{}: {detail}; remove the file and enrol the card again", path.display())]
    EnrolmentKey { path: PathBuf, detail: String },
    /// The file of a payment record is damaged.
    #[error(
        "{}: {source}; put a copy back, or move the file out of the wallet",
        path.display()
    )]
    Record { path: PathBuf, source: PaymentRecordError },
    /// The counter cannot be locked.
    #[error("cannot lock {}: {source}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    /// A directory cannot be listed, moved or removed.
    #[error("cannot use {}: {source}", path.display())]
    System { path: PathBuf, source: io::Error },
}

/// A wallet's directory. Clones are the same directory.
#[derive(Debug, Clone)]
pub struct WalletDirectory {
    path: PathBuf,
}

impl WalletDirectory {
    /// Opens the wallet at this path; makes it if it is not there.
    ///
    /// # Errors
    /// [`DirectoryError::File`] if it cannot be made, or others may enter it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DirectoryError> {
        let path = path.into();
        private_file::create_directory(&path)?;
        for subdirectory in [CARDS, PAYMENTS, ENROLMENTS] {
            private_file::create_directory(&path.join(subdirectory))?;
        }
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its cards, in order.
    ///
    /// # Errors
    /// [`DirectoryError::System`].
    pub fn card_names(&self) -> Result<Vec<CardName>, DirectoryError> {
        let cards = self.path.join(CARDS);
        let mut names: Vec<CardName> =
            names_in(&cards)?.into_iter().filter_map(|name| name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Reads a card.
    ///
    /// # Errors
    /// [`DirectoryError`], naming the file and what to do.
    pub fn card(&self, name: &CardName) -> Result<Card, DirectoryError> {
        let directory = self.card_directory(name);
        let path = directory.join(CARD_FILE);
        let text = match private_file::read_text(&path) {
            Err(error) if error.is_not_found() => {
                return Err(DirectoryError::NoSuchCard(name.clone()));
            }
            other => other?,
        };
        let key_path = directory.join(KEY_FILE);
        let key_pem = private_file::read_text(&key_path)?;
        let fault = |path: &Path, detail: String| DirectoryError::CardFile {
            path: path.to_owned(),
            detail,
        };
        let key =
            SigningKey::from_pem(&key_pem).map_err(|error| fault(&key_path, error.to_string()))?;
        read_card(name, &text, key).map_err(|detail| fault(&path, detail))
    }

    /// Where the card's institution is, if the card was enrolled over the network.
    ///
    /// # Errors
    /// [`DirectoryError`], naming the file and what to do.
    pub fn institution(
        &self,
        name: &CardName,
    ) -> Result<Option<InstitutionContact>, DirectoryError> {
        let path = self.card_directory(name).join(CARD_FILE);
        let text = match private_file::read_text(&path) {
            Err(error) if error.is_not_found() => {
                return Err(DirectoryError::NoSuchCard(name.clone()));
            }
            other => other?,
        };
        read_institution(&text).map_err(|detail| DirectoryError::CardFile { path, detail })
    }

    /// Replaces the card's keyring by this one if the institution's root signed it and it is newer.
    /// When this returns, the newest is on the disk.
    ///
    /// # Errors
    /// [`DirectoryError`]; the card is then as before.
    pub fn store_keyring(&self, name: &CardName, keyring: &Signed) -> Result<(), DirectoryError> {
        let _lock = self.lock(name)?;
        match self.card(name)?.with_newer(keyring.clone()) {
            Some(card) => self.replace_card(&card),
            None => Ok(()),
        }
    }

    /// Puts the terms that the institution has now into the card.
    ///
    /// # Errors
    /// [`DirectoryError`]; the card is then as before.
    pub fn store_terms(
        &self,
        name: &CardName,
        payment_limit: Amount,
        not_after: UnixTime,
    ) -> Result<(), DirectoryError> {
        let _lock = self.lock(name)?;
        self.replace_card(&self.card(name)?.with_terms(payment_limit, not_after))
    }

    /// Raises the card's counter to this value, if it is lower: a wallet that was restored from an
    /// old copy must not use a value again. Returns the value before, if it was lower.
    ///
    /// # Errors
    /// [`DirectoryError`]; the counter is then as before.
    pub fn raise_counter(&self, name: &CardName, used: u64) -> Result<Option<u64>, DirectoryError> {
        let _lock = self.lock(name)?;
        let path = self.card_directory(name).join(COUNTER_FILE);
        // A card that lost its counter gets it back in this way.
        let before = match self.counter(name) {
            Ok(before) => before,
            Err(DirectoryError::Counter { .. }) => 0,
            Err(error) => return Err(error),
        };
        if before >= used && path.exists() {
            return Ok(None);
        }
        private_file::replace(&path, format!("{used}\n").as_bytes())?;
        Ok(Some(before))
    }

    /// Locks the files of a card against other processes, as long as the value lives.
    fn lock(&self, name: &CardName) -> Result<File, DirectoryError> {
        let path = self.card_directory(name).join(LOCK_FILE);
        let fault = |source| DirectoryError::Lock { path: path.clone(), source };
        // The lock is on a file of its own, since the others are replaced by new ones each time.
        let lock = File::open(&path).map_err(fault)?;
        lock.lock().map_err(fault)?;
        Ok(lock)
    }

    fn replace_card(&self, card: &Card) -> Result<(), DirectoryError> {
        let institution = self.institution(card.name())?;
        let path = self.card_directory(card.name()).join(CARD_FILE);
        Ok(private_file::replace(&path, write_card(card, institution.as_ref()).as_bytes())?)
    }

    /// Adds a card with the last used value of its counter, 0 for a new card, and where its
    /// institution is. The card is added whole or not at all.
    ///
    /// # Errors
    /// [`DirectoryError::CardExists`]; [`DirectoryError::File`]; [`DirectoryError::System`].
    pub fn add_card(
        &self,
        card: &Card,
        counter: u64,
        institution: Option<&InstitutionContact>,
    ) -> Result<(), DirectoryError> {
        let place = self.card_directory(card.name());
        if place.exists() {
            return Err(DirectoryError::CardExists(card.name().clone()));
        }
        // No card can have a name that begins with a point.
        let temporary =
            self.path.join(CARDS).join(format!(".{}.{}.new", card.name(), std::process::id()));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(system(&temporary))?;
        }
        private_file::create_directory(&temporary)?;
        let key_path = temporary.join(KEY_FILE);
        let key_pem = card.key().to_pem().map_err(|error| DirectoryError::CardFile {
            path: key_path.clone(),
            detail: error.to_string(),
        })?;
        private_file::create(&key_path, key_pem.as_bytes())?;
        private_file::create(&temporary.join(COUNTER_FILE), format!("{counter}\n").as_bytes())?;
        private_file::create(&temporary.join(LOCK_FILE), b"")?;
        private_file::create(&temporary.join(CARD_FILE), write_card(card, institution).as_bytes())?;
        fs::rename(&temporary, &place).map_err(system(&place))?;
        private_file::sync_parent(&place)?;
        Ok(())
    }

    /// The last value of the card's counter that was used.
    ///
    /// # Errors
    /// [`DirectoryError::Counter`]; [`DirectoryError::File`].
    pub fn counter(&self, name: &CardName) -> Result<u64, DirectoryError> {
        let path = self.card_directory(name).join(COUNTER_FILE);
        let fault = |detail| DirectoryError::Counter { path: path.clone(), detail };
        let text = match private_file::read_text(&path) {
            Err(error) if error.is_not_found() => return Err(fault("the file is missing")),
            other => other?,
        };
        text.trim().parse().map_err(|_| fault("not a whole number"))
    }

    /// Takes the next value of the card's counter. When this returns, the disk has it as used, and
    /// no other process gets it.
    ///
    /// # Errors
    /// [`DirectoryError`]; no value was taken then, or one was lost, which does no harm.
    pub fn take_counter(&self, name: &CardName) -> Result<u64, DirectoryError> {
        let _lock = self.lock(name)?;
        let path = self.card_directory(name).join(COUNTER_FILE);
        let next = self
            .counter(name)?
            .checked_add(1)
            .filter(|next| *next <= CardCommand::COUNTER_MAX)
            .ok_or(DirectoryError::Counter { path: path.clone(), detail: "used up" })?;
        private_file::replace(&path, format!("{next}\n").as_bytes())?;
        Ok(next)
    }

    /// The record of a payment, if there is one.
    ///
    /// # Errors
    /// [`DirectoryError::Record`]; [`DirectoryError::File`].
    pub fn record(
        &self,
        transaction_id: &TransactionId,
    ) -> Result<Option<PaymentRecord>, DirectoryError> {
        let path = self.record_path(transaction_id);
        let text = match private_file::read_text(&path) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        PaymentRecord::from_json(&text)
            .map(Some)
            .map_err(|source| DirectoryError::Record { path, source })
    }

    /// Every record, oldest first.
    ///
    /// # Errors
    /// [`DirectoryError`] of the first that cannot be read.
    pub fn records(&self) -> Result<Vec<PaymentRecord>, DirectoryError> {
        let mut records = Vec::new();
        for name in names_in(&self.path.join(PAYMENTS))? {
            let Some(id) =
                name.strip_suffix(".json").and_then(|stem| stem.parse::<TransactionId>().ok())
            else {
                continue;
            };
            records.extend(self.record(&id)?);
        }
        records.sort_by_key(|record| (record.created_at(), record.transaction_id()));
        Ok(records)
    }

    /// The key that is being enrolled with this code, if an earlier attempt stored one; else one
    /// from `make`, which is stored for the next attempt.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn enrolment_key(
        &self,
        code_digest: &[u8; 32],
        make: impl FnOnce() -> Result<SigningKey, CardError>,
    ) -> Result<SigningKey, DirectoryError> {
        let path = self.enrolment_path(code_digest);
        let fault = |error: &dyn std::fmt::Display| DirectoryError::EnrolmentKey {
            path: path.clone(),
            detail: error.to_string(),
        };
        match private_file::read_text(&path) {
            Ok(pem) => SigningKey::from_pem(&pem).map_err(|error| fault(&error)),
            Err(error) if error.is_not_found() => {
                let key = make().map_err(|error| fault(&error))?;
                let pem = key.to_pem().map_err(|error| fault(&error))?;
                private_file::create(&path, pem.as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the key that was enrolled with this code: the card has it now.
    ///
    /// # Errors
    /// [`DirectoryError::System`].
    pub fn forget_enrolment_key(&self, code_digest: &[u8; 32]) -> Result<(), DirectoryError> {
        let path = self.enrolment_path(code_digest);
        fs::remove_file(&path).map_err(system(&path))
    }

    /// Where payments of this card are stored.
    pub fn store(&self, card: &CardName) -> DirectoryStore {
        DirectoryStore { directory: self.clone(), card: card.clone() }
    }

    fn card_directory(&self, name: &CardName) -> PathBuf {
        self.path.join(CARDS).join(name.as_str())
    }

    fn record_path(&self, transaction_id: &TransactionId) -> PathBuf {
        self.path.join(PAYMENTS).join(format!("{transaction_id}.json"))
    }

    fn enrolment_path(&self, code_digest: &[u8; 32]) -> PathBuf {
        self.path.join(ENROLMENTS).join(format!("{}.pem", HEXLOWER.encode(&code_digest[..8])))
    }
}

const CARDS: &str = "cards";
const PAYMENTS: &str = "payments";
const ENROLMENTS: &str = "enrolments";
const CARD_FILE: &str = "card.json";
const KEY_FILE: &str = "key.pem";
const COUNTER_FILE: &str = "counter";
const LOCK_FILE: &str = "lock";

impl From<DirectoryError> for StoreError {
    fn from(error: DirectoryError) -> Self {
        Self(Box::new(error))
    }
}

/// The store of one card's payments in a [`WalletDirectory`].
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    directory: WalletDirectory,
    card: CardName,
}

impl PaymentStore for DirectoryStore {
    fn record(&self, transaction_id: &TransactionId) -> Result<Option<PaymentRecord>, StoreError> {
        Ok(self.directory.record(transaction_id)?)
    }

    fn reserve(&mut self, transaction_id: &TransactionId) -> Result<Reservation, StoreError> {
        if let Some(record) = self.directory.record(transaction_id)? {
            return Ok(Reservation::Earlier(Box::new(record)));
        }
        Ok(Reservation::Counter(self.directory.take_counter(&self.card)?))
    }

    fn create(&mut self, record: &PaymentRecord) -> Result<(), StoreError> {
        let path = self.directory.record_path(&record.transaction_id());
        private_file::create(&path, record.to_json().as_bytes()).map_err(DirectoryError::from)?;
        Ok(())
    }

    fn update(&mut self, record: &PaymentRecord) -> Result<(), StoreError> {
        let path = self.directory.record_path(&record.transaction_id());
        private_file::replace(&path, record.to_json().as_bytes()).map_err(DirectoryError::from)?;
        Ok(())
    }

    fn store_keyring(&mut self, keyring: &Signed) -> Result<(), StoreError> {
        Ok(self.directory.store_keyring(&self.card, keyring)?)
    }
}

fn names_in(path: &Path) -> Result<Vec<String>, DirectoryError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(system(path))? {
        let entry = entry.map_err(system(path))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

fn system(path: &Path) -> impl Fn(io::Error) -> DirectoryError + use<> {
    let path = path.to_owned();
    move |source| DirectoryError::System { path: path.clone(), source }
}

const FILE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFile {
    version: u32,
    card_id: String,
    payment_limit_minor: u64,
    currency: String,
    not_after_unix_s: u64,
    root_public_key: String,
    keyring: String,
    institution: Option<InstitutionEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstitutionEntry {
    address: String,
    root_pem: String,
}

fn write_card(card: &Card, institution: Option<&InstitutionContact>) -> String {
    let file = CardFile {
        version: FILE_VERSION,
        card_id: card.card_id().to_full_text(),
        payment_limit_minor: card.payment_limit().minor(),
        currency: card.payment_limit().currency().to_string(),
        not_after_unix_s: card.not_after().seconds,
        root_public_key: BASE64.encode(&card.root_key().to_sec1()),
        keyring: BASE64.encode(&card.signed_keyring().encode()),
        institution: institution.map(|contact| InstitutionEntry {
            address: contact.address.to_string(),
            root_pem: String::from_utf8_lossy(&contact.root_pem).into_owned(),
        }),
    };
    // A structure of strings and numbers always serialises.
    let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
    text.push('\n');
    text
}

/// The error names the line or the field, and never repeats its content.
fn read_card_file(text: &str) -> Result<CardFile, String> {
    let file: CardFile = serde_json::from_str(text).map_err(|error| {
        format!("line {}, column {}: not the JSON of a card", error.line(), error.column())
    })?;
    if file.version == FILE_VERSION {
        Ok(file)
    } else {
        Err(format!("version: expected {FILE_VERSION}; a newer wallet wrote this"))
    }
}

fn read_institution(text: &str) -> Result<Option<InstitutionContact>, String> {
    let Some(entry) = read_card_file(text)?.institution else { return Ok(None) };
    let address = entry.address.parse().map_err(|_| "institution: expected its address")?;
    Ok(Some(InstitutionContact { address, root_pem: entry.root_pem.into_bytes() }))
}

fn read_card(name: &CardName, text: &str, key: SigningKey) -> Result<Card, String> {
    let file = read_card_file(text)?;
    let octets = |field: &str, text: &str| {
        BASE64.decode(text.as_bytes()).map_err(|_| format!("{field}: expected octets in base64"))
    };
    let currency = file.currency.parse().map_err(|error| format!("currency: {error}"))?;
    let payment_limit = Amount::new(file.payment_limit_minor, currency)
        .map_err(|error: AmountError| format!("payment_limit_minor: {error}"))?;
    let root_key = VerifyingKey::from_sec1(&octets("root_public_key", &file.root_public_key)?)
        .map_err(|error| format!("root_public_key: {error}"))?;
    let signed_keyring = Signed::decode(&octets("keyring", &file.keyring)?)
        .map_err(|error| format!("keyring: {error}"))?;
    Card::new(CardParts {
        name: name.clone(),
        card_id: file.card_id.parse().map_err(|error| format!("card_id: {error}"))?,
        key,
        payment_limit,
        not_after: UnixTime { seconds: file.not_after_unix_s },
        root_key,
        signed_keyring,
    })
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wallet::PaymentStatus;
    use crate::wallet::fixtures;

    fn wallet() -> (tempfile::TempDir, WalletDirectory) {
        let parent = tempfile::tempdir().unwrap();
        let directory = WalletDirectory::open(parent.path().join("wallet")).unwrap();
        (parent, directory)
    }

    fn record() -> PaymentRecord {
        let card = fixtures::card();
        PaymentRecord::new(
            crate::protocol::encode_offer(&fixtures::offer()),
            card.name().clone(),
            card.card_id().hint(),
            vec![1, 2, 3],
            fixtures::NOW,
        )
        .unwrap()
    }

    #[test]
    fn a_card_reads_back_and_its_name_is_taken() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 0, None).unwrap();
        assert_eq!(directory.card_names().unwrap(), [card.name().clone()]);
        let again = directory.card(card.name()).unwrap();
        assert_eq!(again.card_id(), card.card_id());
        assert_eq!(again.key().verifying_key(), card.key().verifying_key());
        assert_eq!(again.keyring(), card.keyring());
        assert_eq!(again.payment_limit(), card.payment_limit());
        assert!(matches!(directory.add_card(&card, 0, None), Err(DirectoryError::CardExists(_))));
        let other = "other".parse().unwrap();
        assert!(matches!(directory.card(&other), Err(DirectoryError::NoSuchCard(_))));
    }

    #[test]
    fn a_broken_card_file_is_named_and_not_repeated() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 0, None).unwrap();
        let path = directory.card_directory(card.name()).join(CARD_FILE);
        let text = private_file::read_text(&path).unwrap();
        let id = card.card_id().to_full_text();
        for (broken, hint) in [
            (text.replace("\"version\": 1", "\"version\": 2"), "version"),
            (text.replace("EUR", "eur"), "currency"),
            (text.replace(&id, &id[1..]), "card id"),
            (text.replace("\"card_id\"", "\"identifier\""), "line"),
            (text[..40].to_owned(), "line"),
        ] {
            private_file::replace(&path, broken.as_bytes()).unwrap();
            let error = directory.card(card.name()).unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains("card.json"), "{error}");
            assert!(!error.contains(&id[1..]), "{error}");
            assert_eq!(error.matches("again").count(), 1, "{error}");
        }
    }

    #[test]
    fn a_damaged_record_is_told_its_place_once_and_no_words_of_a_library() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 0, None).unwrap();
        directory.store(card.name()).create(&record()).unwrap();
        let path = directory.record_path(&record().transaction_id());
        let text = private_file::read_text(&path).unwrap();
        for (broken, problem) in [
            ("{\n".to_owned(), "line 2, column 0: not the JSON of a payment record"),
            (
                text.replace("\"version\": 1", "\"version\": 2"),
                "version: expected 1; a newer wallet wrote this",
            ),
        ] {
            private_file::replace(&path, broken.as_bytes()).unwrap();
            let error = anyhow::Error::from(directory.records().unwrap_err());
            let expected = format!(
                "{}: {problem}; put a copy back, or move the file out of the wallet",
                path.display()
            );
            assert_eq!(crate::causes::with_causes(error.as_ref()), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_are_the_owners_alone_or_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 0, None).unwrap();
        directory.store(card.name()).create(&record()).unwrap();
        let mut places = vec![directory.path().to_owned()];
        while let Some(place) = places.pop() {
            let metadata = fs::metadata(&place).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", place.display());
            if metadata.is_dir() {
                places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        let key = directory.card_directory(card.name()).join(KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = directory.card(card.name()).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("key.pem"), "{error}");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(
            WalletDirectory::open(directory.path()).unwrap_err().to_string().contains("chmod 700")
        );
    }

    #[test]
    fn no_two_takers_get_one_counter_value() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 41, None).unwrap();
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let (directory, name) = (directory.clone(), card.name().clone());
                std::thread::spawn(move || {
                    (0..10).map(|_| directory.take_counter(&name).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut values = BTreeSet::new();
        for taker in takers {
            let taken = taker.join().unwrap();
            assert!(taken.is_sorted_by(|earlier, later| earlier < later));
            for value in taken {
                assert!(values.insert(value), "{value} was given twice");
            }
        }
        assert_eq!(values.into_iter().collect::<Vec<_>>(), (42..=81).collect::<Vec<_>>());
        assert_eq!(directory.counter(card.name()).unwrap(), 81);
    }

    #[test]
    fn the_newest_keyring_wins_and_stays() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        let institution = InstitutionContact {
            address: "https://bank.example:7443".parse().unwrap(),
            root_pem: b"-----BEGIN CERTIFICATE-----\n".to_vec(),
        };
        directory.add_card(&card, 0, Some(&institution)).unwrap();
        let issued_at = |seconds, root: &SigningKey| {
            let mut keyring = card.keyring().clone();
            keyring.issued_at = fixtures::later(seconds);
            keyring.sign(root)
        };
        let mut store = directory.store(card.name());
        let root = fixtures::root_key();
        for (keyring, expected) in [
            (issued_at(5, &root), 5),
            (issued_at(3, &root), 5),
            (issued_at(5, &root), 5),
            (issued_at(9, &fixtures::key(77)), 5),
            (issued_at(6, &root), 6),
        ] {
            store.store_keyring(&keyring).unwrap();
            let stored = directory.card(card.name()).unwrap();
            assert_eq!(stored.keyring().issued_at, fixtures::later(expected));
        }
        assert_eq!(directory.institution(card.name()).unwrap(), Some(institution));
    }

    #[test]
    fn a_restored_wallet_uses_no_counter_value_again() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 3, None).unwrap();
        assert_eq!(directory.raise_counter(card.name(), 3).unwrap(), None);
        assert_eq!(directory.raise_counter(card.name(), 40).unwrap(), Some(3));
        assert_eq!(directory.raise_counter(card.name(), 7).unwrap(), None);
        assert_eq!(directory.take_counter(card.name()).unwrap(), 41);
        // One whose counter is lost or damaged has it again.
        let path = directory.card_directory(card.name()).join(COUNTER_FILE);
        private_file::replace(&path, b"x").unwrap();
        assert_eq!(directory.raise_counter(card.name(), 41).unwrap(), Some(0));
        fs::remove_file(&path).unwrap();
        assert_eq!(directory.raise_counter(card.name(), 41).unwrap(), Some(0));
        assert_eq!(directory.take_counter(card.name()).unwrap(), 42);
    }

    #[test]
    fn a_card_without_a_good_counter_does_not_pay() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 0, None).unwrap();
        let path = directory.card_directory(card.name()).join(COUNTER_FILE);
        for text in
            ["", "x", "-1", "18446744073709551616", "18446744073709551615", "9223372036854775807"]
        {
            private_file::replace(&path, text.as_bytes()).unwrap();
            let error = directory.take_counter(card.name()).unwrap_err();
            assert!(matches!(error, DirectoryError::Counter { .. }), "{text}: {error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(directory.take_counter(card.name()), Err(DirectoryError::Counter { .. })));
    }

    #[test]
    fn a_payment_is_recorded_once_and_then_updated() {
        let (_parent, directory) = wallet();
        let card = fixtures::card();
        directory.add_card(&card, 0, None).unwrap();
        let mut store = directory.store(card.name());
        let mut record = record();
        let id = record.transaction_id();
        assert_eq!(store.reserve(&id).unwrap(), Reservation::Counter(1));
        store.create(&record).unwrap();
        assert!(store.create(&record).is_err(), "another process was first");
        assert_eq!(store.reserve(&id).unwrap(), Reservation::Earlier(Box::new(record.clone())));
        record.status = PaymentStatus::Approved;
        record.receipt =
            Some(fixtures::signed_receipt(&fixtures::receipt(record.command_digest())));
        store.update(&record).unwrap();
        assert_eq!(directory.records().unwrap(), [record.clone()]);
        let path = directory.record_path(&id);
        private_file::replace(&path, b"{\n").unwrap();
        let error = directory.records().unwrap_err().to_string();
        assert!(error.contains("line"), "{error}");
    }

    #[test]
    fn a_key_that_is_being_enrolled_survives_a_lost_answer() {
        let (_parent, directory) = wallet();
        let first = directory.enrolment_key(&[1; 32], || Ok(fixtures::key(9))).unwrap();
        let again = directory.enrolment_key(&[1; 32], || panic!("made anew")).unwrap();
        assert_eq!(first.verifying_key(), again.verifying_key());
        directory.forget_enrolment_key(&[1; 32]).unwrap();
        let other = directory.enrolment_key(&[1; 32], || Ok(fixtures::key(10))).unwrap();
        assert_ne!(first.verifying_key(), other.verifying_key());
    }
}
