//! How long the things that the institution issues are valid.

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 365 * DAY_S;

/// How long the certificates of a terminal are valid, in seconds: three years.
pub const TERMINAL_VALIDITY_S: u64 = 3 * YEAR_S;
/// How long a card is valid, in seconds: three years.
pub const CARD_VALIDITY_S: u64 = 3 * YEAR_S;
/// How long the keys of a keyring are valid, in seconds: ten years.
pub const KEYRING_VALIDITY_S: u64 = 10 * YEAR_S;
/// How long the certificate of the TLS authority is valid, in seconds: twenty years, as long as a
/// machine stands.
pub const AUTHORITY_VALIDITY_S: u64 = 20 * YEAR_S;
/// How long a server certificate is valid, in seconds: two years. A new one is made at each start
/// of the server.
pub const SERVER_VALIDITY_S: u64 = 2 * YEAR_S;
/// How long before it was made a certificate is valid already, in seconds: the clocks of phones and
/// machines may be behind.
pub const CLOCK_TOLERANCE_S: u64 = DAY_S;
