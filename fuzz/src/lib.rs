//! What the targets have in common: the keys of the test vectors, and how a run's octets are cut
//! into pieces.
//!
//! The keys are those of `tests/vectors`, so that the seeds, which are made from the vectors,
//! verify and open.

use std::sync::LazyLock;

use florin::credential::{InstitutionKey, KeyPurpose, Keyring, SealingKey, SigningKey};
use florin::domain::UnixTime;
use florin::protocol::ChannelKey;

/// When the targets read what has a time: within the vectors' certificates.
pub const NOW: UnixTime = UnixTime { seconds: 1_750_000_000 };

/// Who signs what.
pub struct Keys {
    /// Vouches for the keyring.
    pub root: SigningKey,
    pub certificate: SigningKey,
    pub receipt: SigningKey,
    pub sealing: SealingKey,
    /// The terminal's own in the channel.
    pub channel: ChannelKey,
    pub card: SigningKey,
    /// The public ones of the institution.
    pub keyring: Keyring,
}

/// The keys of the test vectors.
pub static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let signing =
        |octet| SigningKey::from_scalar(&[octet; 32]).expect("a scalar within the group's order");
    let (certificate, receipt) = (signing(0x12), signing(0x13));
    let sealing = SealingKey::from_octets([0x14; 32]);
    let key = |purpose, public_key| InstitutionKey {
        purpose,
        public_key,
        not_after: UnixTime { seconds: 2_000_000_000 },
    };
    let keyring = Keyring {
        institution_name: "Example Bank".into(),
        keys: vec![
            key(KeyPurpose::TerminalCertificate, certificate.verifying_key().to_sec1()),
            key(KeyPurpose::Receipt, receipt.verifying_key().to_sec1()),
            key(KeyPurpose::Sealing, sealing.public_key().0.to_vec()),
        ],
        issued_at: UnixTime { seconds: 1_700_000_000 },
    };
    Keys {
        root: signing(0x11),
        certificate,
        receipt,
        sealing,
        channel: ChannelKey::from_octets([0x15; 32]),
        card: signing(0x16),
        keyring,
    }
});

/// Pieces with two octets of length before each; the last has what is left.
pub fn pieces(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = octets.split_first_chunk::<2>()?;
        let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        octets = rest;
        Some(piece)
    })
}
