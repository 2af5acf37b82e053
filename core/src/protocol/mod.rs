//! What phone and terminal say to each other, octet by octet (docs/protocol.md is the normative
//! text).
//!
//! Codecs and the encrypted channel only: no payment logic, no radio, no clock. Generated protobuf
//! types stay in here; outside are the validated types of this room and of [`crate::domain`].

mod channel;
mod engagement_link;
mod error;
mod fragment;
mod gatt;
mod message;
mod offer;

pub use channel::{
    Answered, Channel, ChannelKey, HandshakeHash, Initiator, MatchingCommitment, MatchingNonce,
    accept, matching_code, peek_version,
};
pub use engagement_link::{EngagementLink, EngagementLinkError, Fingerprint};
pub use error::{Fault, ProtocolError, WireError};
pub use fragment::{
    FragmentTag, Fragmenter, MessageKind, Reassembler, VALUE_OCTETS_MAX, VALUE_OCTETS_MIN,
};
pub use gatt::{AdvertisedName, INBOX_UUID, INFO_UUID, OUTBOX_UUID, SERVICE_UUID, advertised_name};
pub use message::{
    FromPhone, FromTerminal, Hello, HelloAnswer, Info, decode_plain_error, encode_plain_error,
};
pub use offer::{decode_offer, digest_offer, encode_offer};

/// The only version of the protocol so far.
pub const VERSION: u8 = 1;

/// The longest message, before fragmentation, in octets: one screenful of line items fits, and a
/// phone or a terminal can hold one for each peer.
pub const MESSAGE_OCTETS_MAX: usize = 16 * 1024;

/// The generated types of `payment.proto`; nothing outside this room sees them.
mod generated {
    #![allow(clippy::wildcard_enum_match_arm)]
    include!(concat!(env!("OUT_DIR"), "/florin.payment.v1.rs"));
}
