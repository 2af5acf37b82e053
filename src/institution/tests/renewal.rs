//! Renewal: new certificates with the old ones, and no gap between them.

use super::*;
use crate::credential::TerminalCertificate;

for_every_store!(
    the_old_certificate_is_good_until_the_new_one_was_first_used,
    a_renewal_keeps_the_channel_key_and_answers_a_repeat_alike,
    who_may_not_pay_does_not_renew,
    a_restored_store_takes_over_a_certificate_that_it_has_lost,
);

const OLD: [u8; 32] = [5; 32];
const NEW: [u8; 32] = [6; 32];

fn the_old_certificate_is_good_until_the_new_one_was_first_used(mut bench: Bench) {
    let terminal = bench.terminal;
    let check = |bench: &mut Bench, key| bench.institution.check_client_key(terminal, &key);
    check(&mut bench, OLD).unwrap();
    assert!(check(&mut bench, NEW).is_err(), "before it was asked for");
    bench.institution.renew_terminal(terminal, &NEW, NOW).unwrap();
    check(&mut bench, OLD).unwrap();
    check(&mut bench, NEW).unwrap();
    check(&mut bench, NEW).unwrap();
    assert!(matches!(check(&mut bench, OLD), Err(InstitutionError::CertificateReplaced(_))));
    // A renewal that was never used gives way to the next one.
    bench.institution.renew_terminal(terminal, &[7; 32], NOW).unwrap();
    bench.institution.renew_terminal(terminal, &[8; 32], NOW).unwrap();
    assert!(check(&mut bench, [7; 32]).is_err());
    check(&mut bench, [8; 32]).unwrap();
}

fn a_renewal_keeps_the_channel_key_and_answers_a_repeat_alike(mut bench: Bench) {
    let later = UnixTime { seconds: NOW.seconds + 1_000 };
    let renewed = bench.institution.renew_terminal(bench.terminal, &NEW, later).unwrap();
    assert_eq!(renewed.not_after.seconds, later.seconds + TERMINAL_VALIDITY_S);
    let keys = bench.institution.keys();
    let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
    let signed = Signed::decode(&renewed.terminal_certificate).unwrap();
    let certificate = TerminalCertificate::verify(&signed, &keyring, later).unwrap();
    assert_eq!(certificate.channel_key, claim(4, "").channel_key);
    assert_eq!(
        (certificate.terminal_id, certificate.not_after),
        (bench.terminal, renewed.not_after)
    );
    let much_later = UnixTime { seconds: NOW.seconds + 2_000 };
    let again = bench.institution.renew_terminal(bench.terminal, &NEW, much_later).unwrap();
    assert_eq!(again.not_after, renewed.not_after);
}

fn who_may_not_pay_does_not_renew(mut bench: Bench) {
    let terminal = bench.terminal;
    assert!(matches!(
        bench.institution.renew_terminal(terminal, &OLD, NOW),
        Err(InstitutionError::InvalidRequest { field: "certificate_signing_request", .. })
    ));
    let other = TerminalId::from_random([9; 10]);
    assert!(bench.institution.renew_terminal(other, &NEW, NOW).is_err());
    bench.institution.add_terminal(other, "kiosk-2", "Kiosk 2", &code(3), LATER, NOW).unwrap();
    assert!(bench.institution.renew_terminal(other, &NEW, NOW).is_err(), "not enrolled");
    bench.institution.set_terminal_blocked(terminal, Some(NOW)).unwrap();
    assert!(matches!(
        bench.institution.renew_terminal(terminal, &NEW, NOW),
        Err(InstitutionError::Blocked(_))
    ));
    bench.institution.check_client_key(terminal, &OLD).unwrap();
}

fn a_restored_store_takes_over_a_certificate_that_it_has_lost(mut bench: Bench) {
    let terminal_id = bench.terminal;
    let made = |key: u8, issued_s: u64| ClientIdentity {
        terminal_id,
        key_digest: [key; 32],
        issued_at: UnixTime { seconds: NOW.seconds + issued_s },
        not_after: UnixTime { seconds: NOW.seconds + issued_s + TERMINAL_VALIDITY_S },
    };
    let (lost, newer, too_new) = (made(6, 100), made(7, 200), made(8, 301));
    let check = |bench: &mut Bench, client: &ClientIdentity| bench.institution.check_client(client);
    assert!(check(&mut bench, &lost).is_err(), "nothing was restored");
    let adopted_at = UnixTime { seconds: NOW.seconds + 300 };
    bench.institution.adopt_store(&[9; 16], "Olivia", "the disk was lost", adopted_at).unwrap();
    assert!(check(&mut bench, &too_new).is_err(), "the store would know it");
    check(&mut bench, &lost).unwrap();
    check(&mut bench, &newer).unwrap();
    check(&mut bench, &newer).unwrap();
    for older in [lost, made(5, 0)] {
        assert!(matches!(check(&mut bench, &older), Err(InstitutionError::CertificateReplaced(_))));
    }
}
