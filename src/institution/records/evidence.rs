//! What shows that a card ordered a payment.

/// What the institution keeps of an authorisation, to show it to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The offer's octets as the phone got them.
    pub offer: Vec<u8>,
    /// The sealed command's octets as the phone sent them.
    pub sealed_command: Vec<u8>,
    /// The card's signed command, encoded, out of its seal; none if it could not be read.
    pub signed_command: Option<Vec<u8>>,
    /// The card's public key at that time, SEC1 uncompressed; none if the card was not known.
    pub card_public_key: Option<Vec<u8>>,
}
