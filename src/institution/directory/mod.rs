//! What an institution keeps on disk: one directory that only its owner may enter.
//!
//! | file | what |
//! |---|---|
//! | `institution.json` | name, host names, root public key, keyring, bound: nothing secret |
//! | `root.pem` | certificate of the TLS authority, for terminals and wallets: nothing secret |
//! | `keys/root-key.pem` | signs keyrings; not needed to serve, so it may be kept elsewhere |
//! | `keys/terminal-certificate-key.pem` | signs terminal certificates |
//! | `keys/receipt-key.pem` | signs receipts |
//! | `keys/sealing-key.pem` | opens sealed commands (X25519, RFC 8410) |
//! | `keys/tls-authority-key.pem` | signs the TLS certificates of the server and of terminals |
//! | `keys/sealing-key-….pem` | sealing keys that came later; the keyring says which is used |
//! | `serving.json` | how far the store had come that was served last: no part of a copy |
//! | `institution.sqlite` | terminals, cards, accounts, transactions, ledger |
//! | `serve.lock` | empty; the server that runs has it locked |

mod adopt;
mod create;
mod description;
mod error;
mod key_files;
mod layout;
mod open;
mod open_to_serve;
mod serving;
mod serving_lock;

#[cfg(test)]
mod tests;

pub use adopt::{adopt_store, back_up_store};
pub use create::{create_institution, create_institution_of_two};
pub use error::DirectoryError;
pub use layout::authority_certificate_path;
pub use open::{OpenedInstitution, open_institution};
pub use open_to_serve::open_to_serve;
pub use serving::Serving;
