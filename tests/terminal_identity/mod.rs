//! The identity of a terminal whose certificate is good for ever, signed with a key that anybody
//! knows.

use florin::credential::{SigningKey, TerminalCertificate};
use florin::domain::UnixTime;
use florin::protocol::ChannelKey;
use florin::terminal::Identity;

/// The terminal `7M3KQ0ZT4V` of the merchant "Kiosk".
pub fn identity() -> Identity {
    let channel_key = ChannelKey::from_octets([5; 32]);
    let certificate = TerminalCertificate {
        terminal_id: "7M3KQ0ZT4V".parse().unwrap(),
        merchant_id: "M-1".into(),
        merchant_name: "Kiosk".into(),
        channel_key: channel_key.public_key(),
        not_before: UnixTime { seconds: 0 },
        not_after: UnixTime { seconds: u64::MAX },
    };
    let signed = certificate.sign(&SigningKey::from_scalar(&[6; 32]).unwrap());
    Identity::new(signed.encode(), channel_key).unwrap()
}
