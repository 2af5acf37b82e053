//! The journal: whether it is there, can be read, and is whole.

use super::super::{Configuration, ServiceError, ServiceExit};
use super::{Extent, Finding};
use crate::journal::{SqliteJournal, SqliteJournalError};

const CHECK: &str = "journal";

pub(super) async fn examine(
    configuration: &Configuration,
    extent: Extent,
    is_owner: bool,
) -> Finding {
    let path = configuration.journal();
    if !is_owner {
        return Finding::not_examined(
            CHECK,
            "as this user SQLite would leave files behind that the service cannot use",
        );
    }
    if let Err(error) = SqliteJournal::check_not_lost(&path) {
        return Finding::fault(CHECK, &ServiceError::from(error));
    }
    if !path.exists() {
        return Finding::fine(CHECK, format!("the service will create {}", path.display()));
    }
    let name = path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || {
        let journal = SqliteJournal::open_to_read(&path)?;
        if extent == Extent::Everything {
            journal.check_content()?;
        }
        Ok(())
    });
    match reading.await {
        Ok(Ok(())) if extent == Extent::Everything => {
            Finding::fine(CHECK, format!("every page of {name} was read and is whole"))
        }
        Ok(Ok(())) => Finding::fine(CHECK, format!("{name} can be read")),
        Ok(Err(error @ SqliteJournalError::Older { .. })) => {
            Finding::fine(CHECK, error.to_string())
        }
        Ok(Err(error)) => Finding::fault(CHECK, &ServiceError::from(error)),
        Err(error) => Finding::wrong(CHECK, error.to_string(), ServiceExit::Other),
    }
}
