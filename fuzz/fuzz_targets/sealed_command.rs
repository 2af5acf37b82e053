//! A sealed command as a phone sends it and the institution opens it.
//!
//! With the first octet's highest bit the others are sealed first: then they open, for this offer
//! and no other.

#![no_main]

use florin::credential::{CardCommand, SealedCommand, Signed};
use florin::domain::OfferDigest;
use florin_fuzz::KEYS;
use libfuzzer_sys::fuzz_target;

/// Of the vectors' offer.
const OFFER: OfferDigest = OfferDigest([
    0x1e, 0x93, 0xbc, 0x18, 0x07, 0x5e, 0x81, 0xad, 0x21, 0xf3, 0xc1, 0xe2, 0xea, 0xd9, 0x6b, 0x12,
    0x70, 0x97, 0xf5, 0x7c, 0xbe, 0xbf, 0x8b, 0xdd, 0x47, 0xf5, 0xee, 0x5e, 0xa5, 0xb0, 0xfe, 0x70,
]);
/// How the vectors' command was sealed.
const KEY_MATERIAL: [u8; 32] = [0x23; 32];

fuzz_target!(|octets: &[u8]| {
    let Some((choice, octets)) = octets.split_first() else { return };
    let public_key = KEYS.sealing.public_key();
    if choice & 0x80 != 0 {
        let sealed = public_key.seal(octets, &OFFER, KEY_MATERIAL).expect("a usable key");
        let sealed = SealedCommand::decode(&sealed.encode()).expect("our own encoding");
        assert_eq!(KEYS.sealing.open(&sealed, &OFFER).as_deref(), Ok(octets));
        assert!(
            KEYS.sealing.open(&sealed, &OfferDigest([0; 32])).is_err(),
            "opened for another offer"
        );
        return;
    }
    let Ok(sealed) = SealedCommand::decode(octets) else { return };
    assert_eq!(SealedCommand::decode(&sealed.encode()).as_ref(), Ok(&sealed));
    if let Ok(plaintext) = KEYS.sealing.open(&sealed, &OFFER) {
        // Only who sealed it can have made it, and in the seeds that was done with this key
        // material.
        let genuine = public_key.seal(&plaintext, &OFFER, KEY_MATERIAL).expect("a usable key");
        assert_eq!(sealed.ciphertext, genuine.ciphertext, "a forged command opened");
        if let Ok(signed) = Signed::decode(&plaintext) {
            let _ = CardCommand::read_unverified(&signed);
        }
    }
});
