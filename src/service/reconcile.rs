//! `florin reconcile`: reads the journal beside the running service, asks the institution, and has
//! them compared.
//!
//! Nothing is changed on either side. The terminal's own clock decides nothing: what the
//! institution does not list for the period is asked about by its id.

use std::collections::BTreeSet;

use super::clock::wall_clock;
use super::{Configuration, Enrolment, ServiceError};
use crate::domain::{TransactionId, UnixTime};
use crate::journal::{Journal, SqliteJournal};
use crate::relay::Relay;
use crate::terminal::Reconciliation;

/// Compares the journal with the institution, over the relay that `connect` makes for the
/// enrolment: what the institution has in the period by its clock, what the journal has finished
/// in it by the terminal's, and everything that is open.
///
/// # Errors
/// [`ServiceError`]: the enrolment, the journal, or the institution cannot be used.
pub async fn reconcile<R: Relay>(
    configuration: &Configuration,
    connect: impl FnOnce(&Configuration, &Enrolment) -> Result<R, ServiceError>,
    from: UnixTime,
    until: UnixTime,
) -> Result<Reconciliation, ServiceError> {
    let enrolment = Enrolment::load(&configuration.state_directory, wall_clock())?;
    let mut journal = SqliteJournal::open_to_read(&configuration.journal())?;
    let relay = connect(configuration, &enrolment)?;
    let mut reconciliation = Reconciliation::default();
    let mut listed = relay.statement(from, until).await?;
    let seen: BTreeSet<TransactionId> =
        listed.iter().map(|transaction| transaction.transaction_id).collect();
    let ours = journal.finished_between(from, until)?;
    let open =
        journal.payments(true, usize::MAX)?.into_iter().map(|payment| payment.transaction_id);
    let unlisted: BTreeSet<TransactionId> =
        ours.into_iter().chain(open).filter(|id| !seen.contains(id)).collect();
    for transaction_id in unlisted {
        listed.push(relay.transaction(transaction_id).await?);
    }
    for mut there in listed {
        let mut here = journal.payment(there.transaction_id)?;
        if Reconciliation::differs(here.as_ref(), &there) {
            // The service runs meanwhile: one side may have been read just before a change, the
            // other just after it.
            there = relay.transaction(there.transaction_id).await?;
            here = journal.payment(there.transaction_id)?;
        }
        reconciliation.add(here.as_ref(), &there);
    }
    Ok(reconciliation)
}
