//! Enrolment: what a code is good for, and how often.

use super::*;
use crate::credential::{low_order_keys, plain_enrolment_code};

for_every_store!(
    a_terminal_code_is_good_once,
    a_channel_key_is_proved_or_refused,
    a_name_that_no_phone_shows_is_not_stored,
    a_card_code_wants_the_cards_key_and_is_good_once,
);

fn a_name_that_no_phone_shows_is_not_stored(mut bench: Bench) {
    let id = TerminalId::from_random([9; 10]);
    let institution = &mut bench.institution;
    let before = institution.terminals().unwrap().len();
    for (name, words) in [
        ("", "expected 1 to 40 octets"),
        ("\u{3164}", "U+3164 (character 1)"),
        ("Ki\u{202e}osk", "U+202E (character 3)"),
        ("Kiosk ", "U+0020 (character 6)"),
        (&"x".repeat(41), "got 41"),
    ] {
        let refused = institution.add_terminal(id, "kiosk-2", name, &code(3), LATER, NOW);
        let Err(InstitutionError::InvalidRequest { field: "merchant_name", detail }) = refused
        else {
            panic!("{name:?}: {refused:?}")
        };
        assert!(detail.contains(words), "{detail}");
        assert!(
            institution.create_account(name, "EUR".parse().unwrap(), None, NOW).is_err()
                || name.len() == 41
        );
    }
    assert_eq!(institution.terminals().unwrap().len(), before);
}

fn a_channel_key_is_proved_or_refused(mut bench: Bench) {
    let other = TerminalId::from_random([9; 10]);
    let institution = &mut bench.institution;
    institution.add_terminal(other, "kiosk-2", "Kiosk 2", &code(3), LATER, NOW).unwrap();
    let text = code(3).expose_text();
    let good = claim(1, &text);
    // Anybody can compute the proof of such a key: its secret is zero.
    let low_order = low_order_keys().into_iter().map(|channel_key| ChannelKeyClaim {
        channel_key,
        proof: proof_of_zero_secret(&channel_key, &text),
    });
    let others = ChannelKeyClaim { channel_key: claim(2, &text).channel_key, ..good.clone() };
    let other_code = claim(1, &code(4).expose_text());
    let none = ChannelKeyClaim { proof: Vec::new(), ..good.clone() };
    for wrong in low_order.chain([others, other_code, none]) {
        assert!(matches!(
            institution.enrol_terminal(&text, &wrong, &[2; 32], NOW),
            Err(InstitutionError::InvalidRequest { field: "channel_key_proof", .. })
        ));
    }
    // None of them has used the code.
    institution.enrol_terminal(&text, &good, &[2; 32], NOW).unwrap();
}

/// As a channel key's proof, with the secret that every key of low order agrees on.
fn proof_of_zero_secret(channel_key: &[u8; 32], code: &str) -> Vec<u8> {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[0; 32]).unwrap();
    mac.update(b"florin channel key");
    mac.update(channel_key);
    mac.update(plain_enrolment_code(code).as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn a_terminal_code_is_good_once(mut bench: Bench) {
    let other = TerminalId::from_random([9; 10]);
    let institution = &mut bench.institution;
    institution.add_terminal(other, "kiosk-2", "Kiosk 2", &code(3), LATER, NOW).unwrap();
    let text = code(3).expose_text();
    let after = UnixTime { seconds: LATER.seconds + 1 };
    assert!(matches!(
        institution.enrol_terminal(&text, &claim(1, &text), &[2; 32], after),
        Err(InstitutionError::CodeExpired(LATER))
    ));
    let enrolment = institution.enrol_terminal(&text, &claim(1, &text), &[2; 32], NOW).unwrap();
    assert_eq!(enrolment.terminal_id, other);
    // A lost answer: the same keys again.
    assert_eq!(
        institution.enrol_terminal(&text, &claim(1, &text), &[2; 32], NOW).unwrap(),
        enrolment
    );
    for (channel_key, client_key) in [(9, [2; 32]), (1, [9; 32])] {
        assert!(matches!(
            institution.enrol_terminal(&text, &claim(channel_key, &text), &client_key, NOW),
            Err(InstitutionError::CodeUsed)
        ));
    }
    institution.check_client_key(other, &[2; 32]).unwrap();
    assert!(institution.check_client_key(other, &[9; 32]).is_err());
    // A newer code voids the older, and a newer enrolment the older certificate.
    institution.renew_terminal_code(other, &code(4), LATER).unwrap();
    institution.renew_terminal_code(other, &code(5), LATER).unwrap();
    assert!(matches!(
        institution.enrol_terminal(
            &code(4).expose_text(),
            &claim(7, &code(4).expose_text()),
            &[8; 32],
            NOW
        ),
        Err(InstitutionError::CodeUnknown)
    ));
    institution
        .enrol_terminal(&code(5).expose_text(), &claim(7, &code(5).expose_text()), &[8; 32], NOW)
        .unwrap();
    assert!(matches!(
        institution.check_client_key(other, &[2; 32]),
        Err(InstitutionError::CertificateReplaced(_))
    ));
    institution.renew_terminal_code(other, &code(6), LATER).unwrap();
    institution.set_terminal_blocked(other, Some(NOW)).unwrap();
    assert!(matches!(
        institution.enrol_terminal(
            &code(6).expose_text(),
            &claim(7, &code(6).expose_text()),
            &[8; 32],
            NOW
        ),
        Err(InstitutionError::Blocked(_))
    ));
}

fn a_card_code_wants_the_cards_key_and_is_good_once(mut bench: Bench) {
    let card = CardId::from_octets(&[1; 16]).unwrap();
    let terms = CardTerms {
        account: bench.account,
        payment_limit: euros("10.00"),
        verification_limit: None,
    };
    bench.institution.add_card(card, terms, &code(3), LATER, NOW).unwrap();
    let text = code(3).expose_text();
    let key = SigningKey::from_scalar(&[11; 32]).unwrap();
    let thief = SigningKey::from_scalar(&[12; 32]).unwrap();
    let public = key.verifying_key().to_sec1();
    let institution = &mut bench.institution;
    let wrong = card_enrolment_proof(&thief, &text);
    assert!(matches!(
        institution.enrol_card(&text, &public, &wrong, NOW),
        Err(InstitutionError::InvalidRequest { field: "proof", .. })
    ));
    let proof = card_enrolment_proof(&key, &text);
    let enrolment = institution.enrol_card(&text, &public, &proof, NOW).unwrap();
    assert_eq!((enrolment.card_id, enrolment.payment_limit_minor), (card, 1_000));
    assert_eq!(institution.enrol_card(&text, &public, &proof, LATER).unwrap(), enrolment);
    let stolen = card_enrolment_proof(&thief, &text);
    assert!(matches!(
        institution.enrol_card(&text, &thief.verifying_key().to_sec1(), &stolen, NOW),
        Err(InstitutionError::CodeUsed)
    ));
    // A terminal's code enrols no card, and the other way round.
    assert!(institution.enrol_terminal(&text, &claim(1, &text), &[2; 32], NOW).is_err());
    for nonsense in ["", "nonsense", "0000-0000-0000-0000"] {
        let proof = card_enrolment_proof(&key, nonsense);
        assert!(institution.enrol_card(nonsense, &public, &proof, NOW).is_err());
    }
}

#[test]
fn one_code_enrols_one_of_many_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let open = |path: &std::path::Path| Institution::new(keys(), SqliteStore::open(path).unwrap());
    let terminal = TerminalId::from_random([3; 10]);
    open(&path).add_terminal(terminal, "kiosk-1", MERCHANT, &code(1), LATER, NOW).unwrap();
    let winners = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8_u8)
            .map(|number| {
                let mut institution = open(&path);
                let text = code(1).expose_text();
                scope.spawn(move || {
                    institution
                        .enrol_terminal(&text, &claim(number, &text), &[number; 32], NOW)
                        .map_err(|error| {
                            assert!(matches!(error, InstitutionError::CodeUsed), "{error}")
                        })
                        .is_ok()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(winners, 1);
}
