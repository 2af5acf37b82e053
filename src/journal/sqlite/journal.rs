//! The journal in SQLite: opening it, its rows, and what is asked of them.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::super::{Journal, JournalError, RecoveryLevel};
use super::SqliteJournalError;
use super::error::storage_error;
use super::existence_mark;
use super::recovery_marker::{marked_level, raise_marker, remove_marker};
use super::rewrite;
use super::schema::{KNOWN_VERSION, migrate, schema_version};
use crate::domain::{Amount, CommandDigest, TransactionId, UnixTime};
use crate::terminal::{JournalledCommand, Payment, PaymentState, StoreGeneration};

const COLUMNS: &str = "transaction_id, sale_id, state, reason, amount_minor, currency, reference, \
    capture_after_dispense, offer, sealed_command, receipt, released, idempotency_key, \
    idempotency_digest, created_at_unix_s, updated_at_unix_s, sequence, command_digest, exclusion, \
    dispense_restarts, confirmed_generation";

/// How long another program may hold the database. One that prunes or exports holds it for less.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of the file is kept in memory. With SQLite's default of 2 MiB the terminal would grow
/// for its first two thousand payments. A step needs only the pages of the last payments, and the
/// system caches the rest of the file.
const CACHE_KIB: i32 = 128;

/// How long the sealed command of a final payment is kept, in seconds: 35 days. As long the
/// terminal can present the payment again to an institution that has lost it. Nightly
/// reconciliation has compared it long before.
const COMMAND_KEPT_S: u64 = 35 * 86_400;
/// How many old commands one record replaces by their digests, so that no record takes long.
const COMMANDS_REPLACED_AT_ONCE: u32 = 8;

/// One record: a payment came to this state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the journal's order.
    pub record: u64,
    pub state: PaymentState,
    /// When, by the terminal's wall clock.
    pub at: UnixTime,
}

/// The journal in a SQLite file, or in memory for tests.
#[derive(Debug)]
pub struct SqliteJournal {
    connection: Connection,
    path: String,
}

impl SqliteJournal {
    /// Opens the journal, makes it if there never was one, and brings its schema up to date.
    ///
    /// # Errors
    /// [`SqliteJournalError`]: the disk, a newer version, no journal at all, or none where there
    /// was one.
    pub fn open(path: &Path) -> Result<Self, SqliteJournalError> {
        rewrite::finish(path)?;
        let name = path.display().to_string();
        Self::check_not_lost(path)?;
        let was_there = existence_mark::is_marked(path);
        let connection =
            Connection::open(path).map_err(|error| SqliteJournalError::storage(path, error))?;
        let found = schema_version(&connection)
            .map_err(|error| SqliteJournalError::storage(path, error))?;
        if was_there && found == 0 {
            return Err(existence_mark::lost(path));
        }
        let journal = Self::prepare(connection, name)?;
        existence_mark::mark(path)?;
        Ok(journal)
    }

    /// Checks that the journal is there, if there ever was one.
    ///
    /// # Errors
    /// [`SqliteJournalError::Lost`]: it is missing or empty.
    pub fn check_not_lost(path: &Path) -> Result<(), SqliteJournalError> {
        let is_empty = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
        if is_empty && existence_mark::is_marked(path) {
            return Err(existence_mark::lost(path));
        }
        Ok(())
    }

    /// Opens a journal to read it beside the service that writes it. Writes fail.
    ///
    /// # Errors
    /// [`SqliteJournalError`]: the disk, no journal there, or one that this program does not know.
    pub fn open_to_read(path: &Path) -> Result<Self, SqliteJournalError> {
        Self::open_beside_service(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens a journal to prune it beside the service. Two things are left to the service: to
    /// finish the exchange of a journal that was written anew, and to bring a schema up to date.
    ///
    /// # Errors
    /// As [`SqliteJournal::open_to_read`].
    pub fn open_to_prune(path: &Path) -> Result<Self, SqliteJournalError> {
        Self::open_beside_service(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_beside_service(path: &Path, access: OpenFlags) -> Result<Self, SqliteJournalError> {
        let name = path.display().to_string();
        let open = || {
            let connection =
                Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let found = schema_version(&connection)?;
            Ok((connection, found))
        };
        let (connection, found) =
            open().map_err(|error| SqliteJournalError::storage(path, error))?;
        let known = KNOWN_VERSION;
        match found {
            _ if found > known => Err(SqliteJournalError::Newer { path: name, found, known }),
            _ if found < known => Err(SqliteJournalError::Older { path: name, found, known }),
            _ => Ok(Self { connection, path: name }),
        }
    }

    /// Opens the journal for the service, after the recovery that this process knows it needs, or
    /// that the marker of an earlier process asks for.
    ///
    /// # Errors
    /// [`SqliteJournalError`]: the fault is still there, and the marker stays.
    pub fn recover(path: &Path, level: RecoveryLevel) -> Result<Self, SqliteJournalError> {
        let level = level.max(marked_level(path));
        if level == RecoveryLevel::Rewrite && path.exists() {
            rewrite::rewrite(path)?;
        }
        rewrite::discard(path);
        let journal = Self::open(path)?;
        if level != RecoveryLevel::Open {
            journal.check_content()?;
            remove_marker(path);
        }
        Ok(journal)
    }

    /// Leaves a marker beside the journal, so that the next process that opens it does at least
    /// this much first. A marker that asks for more stays.
    pub fn require_recovery(path: &Path, level: RecoveryLevel) {
        raise_marker(path, level);
    }

    /// Checks every page. Takes about a second for each hundred thousand payments.
    ///
    /// # Errors
    /// [`SqliteJournalError::Damaged`], [`JournalError::Storage`].
    pub fn check_content(&self) -> Result<(), SqliteJournalError> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.storage(error))?;
        if verdict == "ok" {
            return Ok(());
        }
        let (path, detail) = (self.path.clone(), verdict.replace('\n', "; "));
        Err(SqliteJournalError::Damaged { path, detail })
    }

    /// A journal that is gone when it is dropped.
    ///
    /// # Errors
    /// [`JournalError::Storage`] if SQLite has no memory.
    pub fn in_memory() -> Result<Self, SqliteJournalError> {
        let name = ":memory:".to_owned();
        let connection = Connection::open_in_memory()
            .map_err(|error| SqliteJournalError::storage(&name, error))?;
        Self::prepare(connection, name)
    }

    fn prepare(mut connection: Connection, path: String) -> Result<Self, SqliteJournalError> {
        let prepared = set_up(&mut connection).and_then(|()| migrate(&mut connection));
        let found = prepared.map_err(|error| SqliteJournalError::storage(&path, error))?;
        if found > KNOWN_VERSION {
            return Err(SqliteJournalError::Newer { path, found, known: KNOWN_VERSION });
        }
        Ok(Self { connection, path })
    }

    fn storage(&self, error: rusqlite::Error) -> JournalError {
        storage_error(&self.path, error)
    }

    fn corrupt(&self, detail: String) -> JournalError {
        JournalError::Corrupt { journal: self.path.clone(), detail }
    }

    fn write(&mut self, payment: &Payment) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        let state = payment.state;
        transaction
            .prepare_cached(&format!(
                "INSERT INTO payments ({COLUMNS}, is_open, number)
                 VALUES (?1, ?22, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
                     ?16, ?17, ?18, ?19, ?20, ?21,
                     (SELECT coalesce(max(number), 0) + 1 FROM payments))
                 ON CONFLICT (transaction_id) DO UPDATE SET state = ?2, reason = ?3,
                     sealed_command = ?9, receipt = ?10, released = ?11, updated_at_unix_s = ?15,
                     sequence = ?16, command_digest = ?17, exclusion = ?18,
                     dispense_restarts = ?19, confirmed_generation = ?20, is_open = ?21"
            ))?
            .execute(params![
                payment.transaction_id.as_octets(),
                state.name(),
                state.reason(),
                payment.amount.minor() as i64,
                payment.amount.currency().code(),
                payment.reference,
                payment.capture_after_dispense,
                payment.offer,
                payment.command.as_ref().and_then(JournalledCommand::octets),
                payment.receipt,
                payment.released,
                payment.idempotency.as_ref().map(|(key, _)| key),
                payment.idempotency.as_ref().map(|(_, digest)| digest),
                payment.created_at.seconds as i64,
                payment.updated_at.seconds as i64,
                payment.sequence as i64,
                payment.command_digest().map(|digest| digest.0),
                payment.exclusion,
                payment.dispense_restarts,
                payment.confirmed_generation.map(|generation| generation.0),
                !state.is_final(),
                payment.sale_id.as_octets(),
            ])?;
        transaction
            .prepare_cached(
                "UPDATE authorisations SET newest_sequence = ?1 WHERE newest_sequence < ?1",
            )?
            .execute([payment.sequence as i64])?;
        transaction
            .prepare_cached(
                "INSERT INTO changes (transaction_id, state, reason, at_unix_s)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                payment.transaction_id.as_octets(),
                state.name(),
                state.reason(),
                payment.updated_at.seconds as i64
            ])?;
        if state.is_final() {
            let kept_since = payment.updated_at.seconds.saturating_sub(COMMAND_KEPT_S);
            transaction
                .prepare_cached(
                    "UPDATE payments SET sealed_command = NULL WHERE transaction_id IN (
                         SELECT transaction_id FROM payments
                         WHERE NOT is_open AND sealed_command IS NOT NULL
                             AND updated_at_unix_s < ?1 AND command_digest IS NOT NULL
                         ORDER BY updated_at_unix_s LIMIT ?2)",
                )?
                .execute(params![kept_since as i64, COMMANDS_REPLACED_AT_ONCE])?;
        }
        transaction.commit()
    }

    fn read(&self, row: &Row<'_>) -> Result<Result<Payment, JournalError>, rusqlite::Error> {
        let ids: [Vec<u8>; 2] = [row.get(0)?, row.get(1)?];
        let state: String = row.get(2)?;
        let reason: String = row.get(3)?;
        let currency: String = row.get(5)?;
        let key: Option<String> = row.get(12)?;
        let digest: Option<[u8; 32]> = row.get(13)?;
        let sealed_command: Option<Vec<u8>> = row.get(9)?;
        let digest_of_command = row
            .get::<_, Option<[u8; 32]>>(17)?
            .map(|digest| JournalledCommand::Digest(CommandDigest(digest)));
        let parsed = (|| {
            let id = |octets: &[u8]| {
                TransactionId::from_octets(octets).map_err(|error| self.corrupt(error.to_string()))
            };
            let (transaction_id, sale_id) = (id(&ids[0])?, id(&ids[1])?);
            let amount_minor = row.get::<_, i64>(4).unwrap_or_default() as u64;
            let amount = currency
                .parse()
                .map_err(crate::domain::AmountError::from)
                .and_then(|currency| Amount::new(amount_minor, currency))
                .map_err(|error| self.corrupt(format!("{transaction_id}: {error}")))?;
            let state = PaymentState::from_names(&state, &reason).ok_or_else(|| {
                self.corrupt(format!("{transaction_id}: state `{state}`, reason `{reason}`"))
            })?;
            Ok((transaction_id, sale_id, amount, state))
        })();
        let (transaction_id, sale_id, amount, state) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Payment {
            transaction_id,
            sale_id,
            state,
            amount,
            reference: row.get(6)?,
            capture_after_dispense: row.get(7)?,
            offer: row.get(8)?,
            command: sealed_command.map(JournalledCommand::Full).or(digest_of_command),
            receipt: row.get(10)?,
            exclusion: row.get(18)?,
            released: row.get(11)?,
            dispense_restarts: row.get(19)?,
            confirmed_generation: row.get::<_, Option<[u8; 16]>>(20)?.map(StoreGeneration),
            idempotency: key.zip(digest),
            created_at: UnixTime { seconds: row.get::<_, i64>(14)? as u64 },
            updated_at: UnixTime { seconds: row.get::<_, i64>(15)? as u64 },
            sequence: row.get::<_, i64>(16)? as u64,
        }))
    }

    /// Every state that a payment went through, in order.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn changes(&self, transaction_id: TransactionId) -> Result<Vec<Change>, JournalError> {
        let read = |row: &Row<'_>| {
            let at = UnixTime { seconds: row.get::<_, i64>(3)? as u64 };
            Ok((
                row.get::<_, i64>(0)? as u64,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                at,
            ))
        };
        let sql = "SELECT record, state, reason, at_unix_s FROM changes \
                   WHERE transaction_id = ?1 ORDER BY record";
        let rows: Result<Vec<_>, rusqlite::Error> =
            self.connection.prepare_cached(sql).and_then(|mut statement| {
                statement.query_map([transaction_id.as_octets()], read)?.collect()
            });
        let rows = rows.map_err(|error| self.storage(error))?;
        rows.into_iter()
            .map(|(record, state, reason, at)| {
                let state = PaymentState::from_names(&state, &reason).ok_or_else(|| {
                    self.corrupt(format!("record {record}: state `{state}`, reason `{reason}`"))
                })?;
                Ok(Change { record, state, at })
            })
            .collect()
    }

    /// The ids of final payments whose last change falls into a period by the terminal's clock:
    /// from included, until excluded. Oldest change first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn finished_between(
        &self,
        from: UnixTime,
        until: UnixTime,
    ) -> Result<Vec<TransactionId>, JournalError> {
        let clamp = |time: UnixTime| i64::try_from(time.seconds).unwrap_or(i64::MAX);
        let sql = "SELECT transaction_id FROM payments WHERE NOT is_open \
                   AND updated_at_unix_s >= ?1 AND updated_at_unix_s < ?2 \
                   ORDER BY updated_at_unix_s";
        let rows: Result<Vec<Vec<u8>>, rusqlite::Error> =
            self.connection.prepare_cached(sql).and_then(|mut statement| {
                statement.query_map([clamp(from), clamp(until)], |row| row.get(0))?.collect()
            });
        rows.map_err(|error| self.storage(error))?
            .iter()
            .map(|id| {
                TransactionId::from_octets(id).map_err(|error| self.corrupt(error.to_string()))
            })
            .collect()
    }

    /// Removes final payments and all their changes, for good. What is open stays, whatever is
    /// asked. Returns how many were removed.
    ///
    /// # Errors
    /// [`JournalError`]; nothing is removed then.
    pub fn prune(&mut self, finished: &[TransactionId]) -> Result<usize, JournalError> {
        let removed = (|| {
            let transaction = self.connection.transaction()?;
            let mut removed = 0;
            for transaction_id in finished {
                let is_removed = transaction
                    .prepare_cached(
                        "DELETE FROM payments WHERE transaction_id = ?1 AND NOT is_open",
                    )?
                    .execute([transaction_id.as_octets()])?;
                if is_removed > 0 {
                    transaction
                        .prepare_cached("DELETE FROM changes WHERE transaction_id = ?1")?
                        .execute([transaction_id.as_octets()])?;
                }
                removed += is_removed;
            }
            transaction.commit()?;
            Ok(removed)
        })();
        removed.map_err(|error| self.storage(error))
    }

    fn one(
        &self,
        condition: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<Option<Payment>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM payments WHERE {condition}");
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([value], |row| self.read(row)).optional())
            .map_err(|error| self.storage(error))?
            .transpose()
    }
}

fn set_up(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Plans each statement once, not anew for each value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

impl Journal for SqliteJournal {
    fn append(&mut self, payment: &Payment) -> Result<(), JournalError> {
        self.write(payment).map_err(|error| self.storage(error))
    }

    fn payment(&mut self, transaction_id: TransactionId) -> Result<Option<Payment>, JournalError> {
        self.one("transaction_id = ?1", transaction_id.as_octets())
    }

    fn newest_of_sale(
        &mut self,
        transaction_id: TransactionId,
    ) -> Result<Option<Payment>, JournalError> {
        // The transaction itself may have been pruned: then its id can only be that of a sale.
        let condition = "sale_id = coalesce(\
             (SELECT sale_id FROM payments WHERE transaction_id = ?1), ?1) \
             ORDER BY number DESC LIMIT 1";
        self.one(condition, transaction_id.as_octets())
    }

    fn payment_by_key(&mut self, idempotency_key: &str) -> Result<Option<Payment>, JournalError> {
        self.one("idempotency_key = ?1 ORDER BY number DESC LIMIT 1", idempotency_key)
    }

    fn payments(&mut self, open_only: bool, limit: usize) -> Result<Vec<Payment>, JournalError> {
        self.many(
            if open_only { "WHERE is_open ORDER BY number" } else { "ORDER BY number DESC" },
            limit,
        )
    }

    fn newest_sales(&mut self, limit: usize) -> Result<Vec<Payment>, JournalError> {
        let which = "WHERE NOT EXISTS (SELECT 1 FROM payments AS newer \
             WHERE newer.sale_id = payments.sale_id AND newer.number > payments.number) \
             ORDER BY number DESC";
        self.many(which, limit)
    }

    fn unconfirmed(
        &mut self,
        generation: StoreGeneration,
        before: Option<TransactionId>,
        limit: usize,
    ) -> Result<Vec<Payment>, JournalError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM payments
             WHERE NOT is_open AND confirmed_generation IS NOT NULL AND confirmed_generation <> ?1
                 AND (receipt IS NULL OR sealed_command IS NOT NULL)
                 AND (?2 IS NULL
                     OR number < (SELECT number FROM payments WHERE transaction_id = ?2))
             ORDER BY number DESC LIMIT ?3"
        );
        let before = before.map(|transaction_id| transaction_id.as_octets().to_vec());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Result<Vec<_>, rusqlite::Error> =
            self.connection.prepare_cached(&sql).and_then(|mut statement| {
                let parameters = params![generation.0, before, limit];
                statement.query_map(parameters, |row| self.read(row))?.collect()
            });
        rows.map_err(|error| self.storage(error))?.into_iter().collect()
    }

    fn newest_sequence(&mut self) -> Result<u64, JournalError> {
        self.connection
            .query_row("SELECT newest_sequence FROM authorisations", [], |row| row.get::<_, i64>(0))
            .map(|sequence| sequence as u64)
            .map_err(|error| self.storage(error))
    }
}

impl SqliteJournal {
    fn many(&self, which: &str, limit: usize) -> Result<Vec<Payment>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM payments {which} LIMIT ?1");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Result<Vec<_>, rusqlite::Error> =
            self.connection.prepare_cached(&sql).and_then(|mut statement| {
                statement.query_map([limit], |row| self.read(row))?.collect()
            });
        rows.map_err(|error| self.storage(error))?.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ReversalReason;
    use crate::terminal::fixtures;

    pub(crate) fn payment(number: u8) -> Payment {
        Payment {
            idempotency: Some((format!("key {number}"), [number; 32])),
            ..fixtures::payment(number.into(), PaymentState::Offered)
        }
    }

    #[test]
    fn payments_read_back_as_they_were_written_and_last_changed() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let mut first = payment(1);
        journal.append(&first).unwrap();
        first.state = PaymentState::Reversed(ReversalReason::DispenseFailed);
        first.command = Some(JournalledCommand::Full(vec![4]));
        first.receipt = Some(vec![5]);
        first.exclusion = Some(vec![6]);
        first.dispense_restarts = 7;
        first.confirmed_generation = Some(StoreGeneration([8; 16]));
        first.released = true;
        journal.append(&first).unwrap();
        let mut second = payment(2);
        second.command = Some(JournalledCommand::Digest(CommandDigest([8; 32])));
        journal.append(&second).unwrap();

        assert_eq!(journal.payment(first.transaction_id).unwrap(), Some(first.clone()));
        assert_eq!(journal.payment_by_key("key 1").unwrap(), Some(first.clone()));
        assert_eq!(journal.payment_by_key("key 3").unwrap(), None);
        assert_eq!(journal.payments(true, 10).unwrap(), vec![second.clone()]);
        assert_eq!(journal.payments(false, 10).unwrap(), vec![second.clone(), first]);
        assert_eq!(journal.payments(false, 1).unwrap().len(), 1);
        let third = payment(3);
        journal.append(&third).unwrap();
        assert_eq!(
            journal.payments(true, 10).unwrap(),
            vec![second.clone(), third],
            "the oldest open first"
        );
        assert_eq!(journal.payments(true, 1).unwrap(), vec![second]);
    }

    #[test]
    fn a_sale_is_found_by_the_id_of_any_of_its_transactions_also_of_one_that_was_pruned() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let sale_id = payment(1).transaction_id;
        let end = PaymentState::Declined(crate::domain::DeclineReason::MalformedCommand);
        let first = Payment { state: end, ..payment(1) };
        let second = Payment { state: end, sale_id, ..payment(2) };
        let third = Payment { sale_id, ..payment(3) };
        let other = payment(4);
        for payment in [&first, &second, &third, &other] {
            journal.append(payment).unwrap();
        }
        for payment in [&first, &second, &third] {
            let found = journal.newest_of_sale(payment.transaction_id).unwrap();
            assert_eq!(found.as_ref(), Some(&third));
        }
        assert_eq!(journal.newest_of_sale(payment(9).transaction_id).unwrap(), None);
        assert_eq!(journal.newest_sales(9).unwrap(), [other.clone(), third.clone()]);
        assert_eq!(journal.newest_sales(1).unwrap(), [other]);
        assert_eq!(journal.payments(false, 9).unwrap().len(), 4, "each is a payment of its own");
        assert_eq!(journal.prune(&[sale_id]).unwrap(), 1);
        assert_eq!(journal.newest_of_sale(sale_id).unwrap(), Some(third));
    }

    #[test]
    fn a_journal_survives_being_closed_and_a_newer_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        SqliteJournal::open(&path).unwrap().append(&payment(1)).unwrap();
        assert_eq!(
            SqliteJournal::open(&path).unwrap().payments(true, 9).unwrap(),
            vec![payment(1)]
        );
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = SqliteJournal::open(&path).unwrap_err();
        assert!(matches!(error, SqliteJournalError::Newer { found: 99, .. }), "{error}");
    }

    #[test]
    fn a_full_disk_is_said_so_loses_nothing_and_is_over_when_there_is_room() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let pages: u32 =
            journal.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        journal.connection.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let written: Vec<Payment> = (1..=100)
            .map(payment)
            .take_while(|payment| match journal.append(payment) {
                Ok(()) => true,
                Err(error) => {
                    assert!(
                        error.to_string().contains("the disk is full; free some space"),
                        "{error}"
                    );
                    assert_eq!(error.recovery_level(), RecoveryLevel::Open);
                    false
                }
            })
            .collect();
        assert!((1..100).contains(&written.len()), "{}", written.len());
        let mut held = journal.payments(false, 1000).unwrap();
        held.reverse();
        assert_eq!(held, written);
        journal.connection.pragma_update(None, "max_page_count", 100_000).unwrap();
        journal.append(&payment(101)).unwrap();
    }

    #[test]
    fn only_what_is_final_and_asked_for_is_pruned() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        for number in 1..=6 {
            let mut payment = payment(number);
            payment.state =
                if number % 2 == 0 { PaymentState::Captured } else { PaymentState::Capturing };
            payment.updated_at.seconds = u64::from(number);
            journal.append(&payment).unwrap();
        }
        let between = |journal: &SqliteJournal, from, until| {
            journal
                .finished_between(UnixTime { seconds: from }, UnixTime { seconds: until })
                .unwrap()
        };
        let id = |number| payment(number).transaction_id;
        assert_eq!(between(&journal, 0, u64::MAX), [id(2), id(4), id(6)]);
        assert_eq!(between(&journal, 2, 6), [id(2), id(4)]);
        assert_eq!(
            journal.prune(&[id(1), id(2), id(4), id(9)]).unwrap(),
            2,
            "open and unknown ones stay"
        );
        assert_eq!(between(&journal, 0, u64::MAX), [id(6)]);
        assert_eq!(journal.payments(true, 9).unwrap().len(), 3);
        assert!(journal.changes(id(2)).unwrap().is_empty());
        assert_eq!(journal.changes(id(1)).unwrap().len(), 1);
        // Numbers go on, so the order stays.
        journal.append(&payment(7)).unwrap();
        assert_eq!(journal.payments(false, 1).unwrap()[0].transaction_id, id(7));
    }

    #[test]
    fn the_newest_sequence_number_outlives_its_payment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let mut journal = SqliteJournal::open(&path).unwrap();
        assert_eq!(journal.newest_sequence().unwrap(), 0);
        let last = Payment { state: PaymentState::Captured, sequence: 8, ..payment(1) };
        journal.append(&last).unwrap();
        journal.append(&Payment { sequence: 7, ..payment(2) }).unwrap();
        assert_eq!(journal.payment(last.transaction_id).unwrap(), Some(last.clone()));
        journal.prune(&[last.transaction_id]).unwrap();
        drop(journal);
        assert_eq!(SqliteJournal::open(&path).unwrap().newest_sequence().unwrap(), 8);
    }

    #[test]
    fn what_a_life_of_the_store_has_not_confirmed_is_found_newest_first() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let (old, new) = (StoreGeneration([1; 16]), StoreGeneration([2; 16]));
        for number in 1..=5 {
            journal
                .append(&Payment {
                    state: PaymentState::Captured,
                    command: Some(JournalledCommand::Full(vec![number])),
                    receipt: Some(vec![number]),
                    confirmed_generation: [Some(old), Some(new), None][usize::from(number) % 3],
                    ..payment(number)
                })
                .unwrap();
        }
        let mut ids = |generation, before, limit| -> Vec<TransactionId> {
            let found = journal.unconfirmed(generation, before, limit).unwrap();
            found.iter().map(|payment| payment.transaction_id).collect()
        };
        let id = |number| payment(number).transaction_id;
        assert_eq!(ids(old, None, 9), [id(4), id(1)]);
        assert_eq!(ids(old, None, 1), [id(4)]);
        assert_eq!(ids(old, Some(id(4)), 9), [id(1)]);
        assert_eq!(ids(new, None, 9), [id(3)]);
    }

    #[test]
    fn old_commands_of_final_payments_are_replaced_by_their_digests() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let with_command = |number, state, seconds| Payment {
            state,
            command: Some(JournalledCommand::Full(vec![number; 100])),
            updated_at: UnixTime { seconds },
            ..payment(number)
        };
        let old = with_command(1, PaymentState::Captured, 10);
        let open = with_command(2, PaymentState::Capturing, 10);
        let young = with_command(3, PaymentState::Captured, 20);
        for payment in [&old, &open, &young] {
            journal.append(payment).unwrap();
        }
        let mut command = |payment: &Payment| {
            journal.payment(payment.transaction_id).unwrap().unwrap().command.unwrap()
        };
        assert_eq!(command(&old).octets(), Some(&[1; 100][..]));
        let later = with_command(4, PaymentState::Captured, COMMAND_KEPT_S + 20);
        journal.append(&later).unwrap();
        let mut command = |payment: &Payment| {
            journal.payment(payment.transaction_id).unwrap().unwrap().command.unwrap()
        };
        assert_eq!(command(&old).octets(), None);
        assert_eq!(command(&old).digest(), old.command_digest().unwrap(), "it is still found");
        for payment in [&open, &young, &later] {
            assert!(command(payment).octets().is_some());
        }
    }

    #[test]
    fn a_file_that_is_no_journal_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        std::fs::write(&path, [7; 8192]).unwrap();
        let error = SqliteJournal::open(&path).unwrap_err().to_string();
        assert!(error.contains("journal.sqlite"), "{error}");
    }
}
