//! What is signed: terminal certificates, keyrings, receipts, exclusions, card commands.
//!
//! The first octet chooses the kind, and whether the octets are a whole signed body, which nobody
//! can forge, or a body that a genuine key signs, which has to be read.

#![no_main]

use florin::credential::{
    CardCommand, CredentialError, Keyring, PayloadType, Signed, SigningKey, TerminalCertificate,
    sign_exclusion, sign_receipt, verify_card_enrolment_proof, verify_exclusion, verify_receipt,
};
use florin_fuzz::{KEYS, NOW};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Some((choice, octets)) = octets.split_first() else { return };
    if choice & 0x80 == 0 {
        read_signed(octets);
        return;
    }
    let key_id = |signed: Signed| Signed::decode(&signed.encode()).expect("our own encoding");
    match choice & 0x7f {
        0 => {
            let signed =
                key_id(KEYS.certificate.sign(PayloadType::TerminalCertificate, octets.to_vec()));
            if let Ok(certificate) = TerminalCertificate::verify(&signed, &KEYS.keyring, NOW) {
                assert!(certificate.not_before <= NOW && NOW <= certificate.not_after);
                same(certificate.sign(&KEYS.certificate), &certificate, |signed| {
                    TerminalCertificate::verify(signed, &KEYS.keyring, NOW)
                });
            }
        }
        1 => {
            let signed = key_id(KEYS.root.sign(PayloadType::Keyring, octets.to_vec()));
            if let Ok(keyring) = Keyring::verify(&signed, &KEYS.root.verifying_key()) {
                let _ = keyring.sealing_key(NOW);
                same(keyring.sign(&KEYS.root), &keyring, |signed| {
                    Keyring::verify(signed, &KEYS.root.verifying_key())
                });
                // Whatever keys are in it: reading a receipt under them names what is wrong, or
                // nothing is.
                let receipt = KEYS.receipt.sign(PayloadType::Receipt, Vec::new());
                assert!(verify_receipt(&receipt, &keyring, NOW).is_err(), "an empty receipt");
            }
        }
        2 => {
            let signed = key_id(KEYS.receipt.sign(PayloadType::Receipt, octets.to_vec()));
            if let Ok(receipt) = verify_receipt(&signed, &KEYS.keyring, NOW) {
                same(sign_receipt(&receipt, &KEYS.receipt), &receipt, |signed| {
                    verify_receipt(signed, &KEYS.keyring, NOW)
                });
            }
        }
        4 => {
            let signed = key_id(KEYS.receipt.sign(PayloadType::Exclusion, octets.to_vec()));
            if let Ok(exclusion) = verify_exclusion(&signed, &KEYS.keyring, NOW) {
                if let Some(used) = exclusion.command_digest {
                    let (id, terminal) = (exclusion.transaction_id, exclusion.terminal_id);
                    assert!(!exclusion.excludes(id, terminal, used), "it excludes what was used");
                }
                same(sign_exclusion(&exclusion, &KEYS.receipt), &exclusion, |signed| {
                    verify_exclusion(signed, &KEYS.keyring, NOW)
                });
            }
        }
        _ => {
            let signed = key_id(KEYS.card.sign(PayloadType::CardCommand, octets.to_vec()));
            if let Ok(command) = CardCommand::read_unverified(&signed) {
                assert!(command.counter > 0);
                same(command.sign(&KEYS.card), &command, CardCommand::read_unverified);
            }
        }
    }
});

/// A signed body of a stranger: read whole, and believed by nobody whose key did not sign it.
fn read_signed(octets: &[u8]) {
    let _ = verify_card_enrolment_proof(&KEYS.card.verifying_key(), "ABCD-EFGH", octets);
    let Ok(signed) = Signed::decode(octets) else { return };
    assert_eq!(Signed::decode(&signed.encode()).as_ref(), Ok(&signed));
    let _ = TerminalCertificate::read_unverified(&signed);
    let _ = CardCommand::read_unverified(&signed);
    if TerminalCertificate::verify(&signed, &KEYS.keyring, NOW).is_ok() {
        genuine(&signed, PayloadType::TerminalCertificate, &KEYS.certificate);
    }
    if Keyring::verify(&signed, &KEYS.root.verifying_key()).is_ok() {
        genuine(&signed, PayloadType::Keyring, &KEYS.root);
    }
    if verify_receipt(&signed, &KEYS.keyring, NOW).is_ok() {
        genuine(&signed, PayloadType::Receipt, &KEYS.receipt);
    }
    if verify_exclusion(&signed, &KEYS.keyring, NOW).is_ok() {
        genuine(&signed, PayloadType::Exclusion, &KEYS.receipt);
    }
    if CardCommand::verify(&signed, &KEYS.card.verifying_key()).is_ok() {
        genuine(&signed, PayloadType::CardCommand, &KEYS.card);
    }
}

/// Only the vectors' own signed bodies are in the seeds; the same body signed anew has the same
/// signature (RFC 6979), or its twin with the negated half, which ECDSA cannot tell apart.
fn genuine(signed: &Signed, payload_type: PayloadType, key: &SigningKey) {
    let anew = key.sign(payload_type, signed.body.clone());
    assert_eq!(signed.signature[..32], anew.signature[..32], "a forged {}", payload_type.name());
}

/// What was read is signed and read again as the same.
fn same<T: PartialEq + std::fmt::Debug>(
    signed: Signed,
    read: &T,
    again: impl Fn(&Signed) -> Result<T, CredentialError>,
) {
    let signed = Signed::decode(&signed.encode()).expect("our own encoding");
    assert_eq!(again(&signed).as_ref(), Ok(read));
}
