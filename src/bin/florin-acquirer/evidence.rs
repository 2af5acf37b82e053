//! `florin-acquirer transaction evidence`: what proves a payment, for a third party.

use data_encoding::{BASE64, HEXLOWER};
use florin::credential::{CardCommand, PayloadType, Signed};
use florin::domain::HolderVerification;
use florin::institution::{EvidenceReport, Institution, TransactionKey};
use serde_json::{Value, json};

use crate::output::Output;
use crate::transaction_action::PaymentName;
use crate::transaction_view;

/// What stands before a P-256 point in a `SubjectPublicKeyInfo` (RFC 5480).
const P256_KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Prints the evidence. Returns whether every check is right.
pub fn run(
    payment: &PaymentName,
    mut institution: Institution,
    output: &Output,
) -> anyhow::Result<bool> {
    let found = payment.find(&mut institution)?;
    let key = TransactionKey { terminal: found.terminal, id: found.id };
    let report = institution.evidence(&key)?;
    output.object(&object(&report), || text(&report))?;
    Ok(report.is_right())
}

fn object(report: &EvidenceReport) -> Value {
    let evidence = &report.evidence;
    let hex = |octets: &[u8]| HEXLOWER.encode(octets);
    let checks: serde_json::Map<_, _> =
        report.checks.iter().map(|check| (check.name.to_owned(), json!(check.is_right))).collect();
    json!({
        "transaction": transaction_view::object(&report.transaction),
        "offer_hex": hex(&evidence.offer),
        "sealed_command_hex": hex(&evidence.sealed_command),
        "card_public_key_hex": evidence.card_public_key.as_deref().map(hex),
        "card_public_key_pem": evidence.card_public_key.as_deref().map(public_key_pem),
        "command": report.command.as_ref().map(command_object),
        "receipts_hex": report.receipts.iter().map(|receipt| hex(receipt)).collect::<Vec<_>>(),
        "exclusion_hex": hex(&report.exclusion),
        "keyring_hex": hex(&report.keyring),
        "root_public_key_hex": hex(&report.root_public_key),
        "checks": checks,
        "is_right": report.is_right(),
    })
}

fn command_object((signed, command): &(Signed, CardCommand)) -> Value {
    let payload_type = PayloadType::CardCommand;
    json!({
        "body_hex": HEXLOWER.encode(&signed.body),
        "payload_type": payload_type.name(),
        "signed_octets_hex":
            HEXLOWER.encode(&payload_type.pre_authentication_encoding(&signed.body)),
        "signature_hex": HEXLOWER.encode(&signed.signature),
        "signature_der_hex": HEXLOWER.encode(&signature_der(&signed.signature)),
        "offer_digest_hex": HEXLOWER.encode(&command.offer_digest.0),
        "counter": command.counter,
        "holder_verification": verification(command.holder_verification),
        "card_hint": command.card_id.hint(),
    })
}

fn verification(verification: HolderVerification) -> &'static str {
    match verification {
        HolderVerification::None => "none",
        HolderVerification::Consent => "consent",
        HolderVerification::Passcode => "passcode",
        HolderVerification::Biometric => "biometric",
    }
}

fn text(report: &EvidenceReport) -> String {
    let mut lines = vec![transaction_view::text(&report.transaction)];
    for check in &report.checks {
        let found = match check.is_right {
            Some(true) => "right",
            Some(false) => "WRONG",
            None => "nothing to check",
        };
        lines.push(format!("{:<44} {found}", check.name.replace('_', " ")));
    }
    lines.push("With --json it prints the octets, for a third party to check.".to_owned());
    lines.join("\n")
}

/// `SubjectPublicKeyInfo` in PEM.
fn public_key_pem(point: &[u8]) -> String {
    let base64 = BASE64.encode(&[&P256_KEY_PREFIX, point].concat());
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// `ECDSA-Sig-Value` in DER, as OpenSSL takes it.
fn signature_der(signature: &[u8; 64]) -> Vec<u8> {
    let integer = |octets: &[u8]| {
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let mut value = octets[zeros.min(octets.len() - 1)..].to_vec();
        if value[0] & 0x80 != 0 {
            value.insert(0, 0);
        }
        // At most 33 octets, so one octet of length is enough.
        [vec![0x02, u8::try_from(value.len()).unwrap_or(u8::MAX)], value].concat()
    };
    let (r, s) = signature.split_at(32);
    let numbers = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(numbers.len()).unwrap_or(u8::MAX)], numbers].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_in_der_has_the_shortest_integers() {
        let mut signature = [0; 64];
        (signature[31], signature[32]) = (5, 0x80);
        let der = signature_der(&signature);
        assert_eq!(der[..7], [0x30, 38, 2, 1, 5, 2, 33]);
        assert_eq!(der[7..9], [0, 0x80]);
        assert_eq!(der.len(), 40);
        assert_eq!(signature_der(&[0; 64]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        let key = public_key_pem(&[4; 65]);
        assert!(key.lines().all(|line| line.len() <= 64) && key.ends_with("-----\n"), "{key}");
    }
}
