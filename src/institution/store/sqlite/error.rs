//! SQLite's errors in words that say what to do.

use rusqlite::{Error, ErrorCode};

use crate::institution::store::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if let Error::InvalidColumnType(_, column, _) = &error {
            return Self::corrupt(format!("value of `{column}`"));
        }
        let detail = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return Self::Busy,
            Some(ErrorCode::ConstraintViolation) => {
                return Self::RuleBroken { detail: error.to_string() };
            }
            Some(ErrorCode::DiskFull) => "its disk is full; free some space on it".to_owned(),
            Some(ErrorCode::ReadOnly) => {
                "its file cannot be written; check that this user may write it and that its disk \
                 is not mounted read-only"
                    .to_owned()
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                "its file cannot be opened; check that this user may read and write it and its \
                 directory"
                    .to_owned()
            }
            Some(ErrorCode::SystemIoFailure) => format!(
                "its disk reports an error ({error}); check the disk, then run `florin-acquirer \
                 ledger check`"
            ),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => format!(
                "its file is damaged ({error}); restore it from a backup, then run \
                 `florin-acquirer ledger check`"
            ),
            _ => format!("SQLite says: {error}; this is a fault in the program, please report it"),
        };
        Self::Failed { detail }
    }
}
