//! What every store has to do, held against each store there is.
//!
//! A new store gets a module in `for_every_store!` and a place in `stores_agree`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::credential::SigningKey;
use crate::domain::{
    Amount, CardId, CommandDigest, DeclineReason, OfferDigest, ReversalReason, TerminalId,
    TransactionId, TransactionState, UnixTime,
};
use crate::institution::records::{
    Account, AccountId, AuditEntry, CardKey, CodeDigest, CodeSubject, EnrolmentState, EntryKind,
    Evidence, IssuedCard, LedgerAccount, LedgerEntry, LedgerReport, MaintenanceAction,
    MaintenanceEntry, NewAccount, NewCard, NewEnrolmentCode, NewOperationRequest, NewTerminal,
    NextClient, OperationRequest, OperatorAction, PageEnd, RefundId, RegisteredOperator,
    RegisteredTerminal, RequestDecision, Standing, TerminalKeys, TransactionKey, TransactionRecord,
    Transfer,
};

/// Runs each test over each store.
macro_rules! for_every_store {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[test]
                fn $test() {
                    super::$test(&mut super::SqliteStore::open_in_memory().unwrap());
                }
            )*
        }

        mod memory {
            $(
                #[test]
                fn $test() {
                    super::$test(&mut super::MemoryStore::new());
                }
            )*
        }
    };
}

for_every_store!(
    an_approval_is_recorded_whole,
    a_decline_is_recorded_with_its_counter,
    facts_that_changed_leave_nothing,
    a_change_that_does_not_matter_does_not_matter,
    a_transaction_is_recorded_once,
    a_counter_only_moves_up,
    no_balance_goes_below_zero,
    a_capture_and_a_reversal_move_the_money,
    refunds_give_back_what_was_captured_at_most,
    a_write_off_pays_both,
    what_operators_do_is_logged_with_it,
    a_request_is_carried_out_once,
    operators_are_kept_by_name,
    the_check_finds_entries_that_touch_wrong_accounts,
    the_check_finds_refunds_and_write_offs_of_others,
    evidence_is_kept_as_it_came,
    approved_transactions_are_listed_oldest_first,
    tombstones_are_counted_by_terminal_and_time,
    what_was_settled_meanwhile_is_outdated,
    a_tombstone_is_recorded_once,
    an_id_belongs_to_its_terminal,
    a_page_has_its_period_its_order_and_its_limit,
    a_card_has_its_transactions_newest_first,
    a_number_is_used_once_in_an_era,
    a_renewed_key_waits_for_its_first_use,
    a_life_goes_on_until_another_begins,
    what_is_presented_again_never_lowers_a_counter,
    a_code_enrols_a_terminal,
    a_code_enrols_a_card_and_the_counter_stays,
    a_newer_code_voids_the_unused_ones,
    what_exists_is_not_added_again,
    blocking_is_seen_and_undone,
    entries_and_totals_are_reported,
);

const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };
const LATER: UnixTime = UnixTime { seconds: NOW.seconds + 60 };
const OPENING_MINOR: u64 = 10_000;

fn euros(minor: u64) -> Amount {
    Amount::new(minor, "EUR".parse().unwrap()).unwrap()
}

fn terminal_id(number: u8) -> TerminalId {
    TerminalId::from_random([number; 10])
}

fn card_id(number: u8) -> CardId {
    CardId::from_octets(&[number; 16]).unwrap()
}

fn key(terminal: u8, id: u8) -> TransactionKey {
    TransactionKey { terminal: terminal_id(terminal), id: TransactionId::from_random([id; 16]) }
}

fn new_code(number: u8) -> NewEnrolmentCode {
    NewEnrolmentCode { digest: CodeDigest([number; 32]), not_after: LATER }
}

fn new_terminal(number: u8) -> NewTerminal {
    NewTerminal {
        id: terminal_id(number),
        merchant_id: format!("kiosk-{number}"),
        merchant_name: "Corner Kiosk".to_owned(),
        registered_at: NOW,
    }
}

fn new_card(number: u8, account: AccountId) -> NewCard {
    NewCard {
        id: card_id(number),
        account,
        payment_limit_minor: 5_000,
        verification_limit_minor: 2_000,
        issued_at: NOW,
    }
}

fn terminal_keys(number: u8) -> TerminalKeys {
    TerminalKeys {
        channel_key: [number; 32],
        client_key_digest: [number; 32],
        certificate_not_after: LATER,
    }
}

fn card_key(number: u8) -> CardKey {
    let public_key = SigningKey::from_scalar(&[number; 32]).unwrap().verifying_key();
    CardKey { public_key, not_after: LATER }
}

/// Everything that a store shows of itself.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    accounts: Vec<Account>,
    terminals: Vec<RegisteredTerminal>,
    cards: Vec<IssuedCard>,
    transactions: Vec<TransactionRecord>,
    report: LedgerReport,
    entries: Vec<LedgerEntry>,
    audit: Vec<(i64, AuditEntry)>,
    requests: Vec<OperationRequest>,
}

fn contents(store: &mut dyn Store) -> Contents {
    let report = store.check_ledger().unwrap();
    assert_eq!(report.faults, []);
    let sum: i64 = report.balances.iter().map(|balance| balance.balance_minor).sum();
    assert_eq!(sum, 0);
    Contents {
        accounts: store.accounts().unwrap(),
        terminals: store.terminals().unwrap(),
        cards: store.cards().unwrap(),
        transactions: store.newest_transactions(None, u32::MAX).unwrap(),
        report,
        entries: store.newest_ledger_entries(u32::MAX).unwrap(),
        audit: store.newest_audit_entries(None, u32::MAX).unwrap(),
        requests: store.requests().unwrap(),
    }
}

/// Has `write` fail for a broken rule, and change nothing.
fn assert_rule_broken<T: std::fmt::Debug>(
    store: &mut dyn Store,
    write: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
) {
    let before = contents(store);
    let refused = write(store);
    assert!(matches!(refused, Err(StoreError::RuleBroken { .. })), "{refused:?}");
    assert_eq!(contents(store), before);
}

/// Has `write` be outdated, and change nothing.
fn assert_outdated(
    store: &mut dyn Store,
    write: impl FnOnce(&mut dyn Store) -> Result<Written, StoreError>,
) {
    let before = contents(store);
    assert_eq!(write(store), Ok(Written::Outdated));
    assert_eq!(contents(store), before);
}

/// An account of 100.00 EUR with two cards, and two terminals, all enrolled.
fn furnish(store: &mut dyn Store) -> AccountId {
    let account = store
        .create_account(&NewAccount {
            name: "Alice".to_owned(),
            currency: "EUR".parse().unwrap(),
            opening_balance: Some(euros(OPENING_MINOR)),
            created_at: NOW,
        })
        .unwrap();
    for number in [1, 2] {
        store.add_terminal(&new_terminal(number), &new_code(number)).unwrap();
        assert_eq!(enrol_terminal(store, number, number), Written::Done);
        store.add_card(&new_card(number, account), &new_code(10 + number)).unwrap();
        assert_eq!(enrol_card(store, 10 + number, number), Written::Done);
    }
    account
}

fn enrol_terminal(store: &mut dyn Store, code: u8, number: u8) -> Written {
    let code = new_code(code).digest;
    let facts = store.enrolment_facts(&code).unwrap().unwrap();
    let enrolment = TerminalEnrolmentRecord {
        code,
        used_by: [number; 32],
        terminal: terminal_id(number),
        keys: terminal_keys(number),
    };
    store.record_terminal_enrolment(&enrolment, &facts).unwrap()
}

fn enrol_card(store: &mut dyn Store, code: u8, number: u8) -> Written {
    let code = new_code(code).digest;
    let facts = store.enrolment_facts(&code).unwrap().unwrap();
    let enrolment = CardEnrolmentRecord {
        code,
        used_by: [number; 32],
        card: card_id(number),
        key: card_key(number),
    };
    store.record_card_enrolment(&enrolment, &facts).unwrap()
}

fn subject(key: TransactionKey, card: u8, minor: u64) -> AuthorisationSubject {
    let sequence = u64::from(key.id.as_octets()[0]) + 1;
    AuthorisationSubject { key, card: Some(card_id(card)), amount: euros(minor), sequence }
}

fn approval(account: AccountId, minor: u64) -> Result<Approval, DeclineReason> {
    let hold = Transfer::hold(account, euros(minor));
    Ok(Approval { code: "ABC123".to_owned(), hold, hold_until: LATER })
}

fn authorisation(
    subject: AuthorisationSubject,
    verdict: Result<Approval, DeclineReason>,
    counter: u64,
) -> AuthorisationRecord {
    AuthorisationRecord {
        subject,
        verdict,
        accepted_counter: Some(counter),
        request_digest: [1; 32],
        offer: vec![1, 2, 3],
        offer_digest: OfferDigest([2; 32]),
        command_digest: CommandDigest([3; 32]),
        sealed_command: vec![5, 6],
        signed_command: Some(vec![7]),
        card_hint: "abab".to_owned(),
        receipt: vec![4, 5, 6],
        exclusion: vec![8],
        decided_at: NOW,
        is_presented: false,
    }
}

/// Reads the facts and records an approval on them.
fn approve(store: &mut dyn Store, key: TransactionKey, card: u8, minor: u64, counter: u64) {
    let subject = subject(key, card, minor);
    let facts = store.authorisation_facts(&subject).unwrap();
    let account = facts.card.as_ref().unwrap().account;
    let authorisation = authorisation(subject, approval(account, minor), counter);
    assert_eq!(store.record_authorisation(&authorisation, &facts), Ok(Written::Done));
}

fn merchant(key: TransactionKey) -> String {
    if key.terminal == terminal_id(1) { "kiosk-1" } else { "kiosk-2" }.to_owned()
}

fn capture(account: AccountId, key: TransactionKey, minor: u64) -> CaptureRecord {
    let transfer = Transfer::capture(account, merchant(key), euros(minor));
    CaptureRecord { key, transfer, receipt: vec![9], captured_at: LATER, audit: None }
}

fn reversal(account: AccountId, key: TransactionKey, minor: u64) -> ReversalRecord {
    let transfer = Transfer::reversal(account, euros(minor));
    let reason = Some(ReversalReason::DispenseFailed);
    ReversalRecord { key, transfer, reason, receipt: vec![7], reversed_at: LATER, audit: None }
}

fn audit(key: TransactionKey, action: OperatorAction, before: Standing) -> AuditEntry {
    let after = match action {
        OperatorAction::Capture => Standing { state: TransactionState::Captured, ..before },
        OperatorAction::Reverse | OperatorAction::WriteOff => {
            Standing { state: TransactionState::Reversed, ..before }
        }
        OperatorAction::Refund { amount, .. } => {
            Standing { refunded_minor: before.refunded_minor + amount.minor(), ..before }
        }
    };
    AuditEntry {
        made_at: LATER,
        operator: "anna".to_owned(),
        approved_by: None,
        key,
        action,
        reason: "the machine burnt down".to_owned(),
        before,
        after,
        request: None,
    }
}

fn approved() -> Standing {
    Standing { state: TransactionState::Approved, refunded_minor: 0 }
}

fn refund(
    account: AccountId,
    key: TransactionKey,
    number: u8,
    minor: u64,
    refunded_before_minor: u64,
) -> RefundRecord {
    let (id, amount) = (RefundId([number; 16]), euros(minor));
    let before =
        Standing { state: TransactionState::Captured, refunded_minor: refunded_before_minor };
    RefundRecord {
        key,
        id,
        refunded_before_minor,
        transfer: Transfer::refund(account, merchant(key), amount),
        receipt: vec![number],
        audit: audit(key, OperatorAction::Refund { id, amount }, before),
    }
}

fn write_off(account: AccountId, key: TransactionKey, minor: u64) -> WriteOffRecord {
    WriteOffRecord {
        key,
        reversal: Transfer::reversal(account, euros(minor)),
        payment: Transfer::write_off(merchant(key), euros(minor)),
        receipt: vec![7],
        written_off_at: LATER,
        audit: audit(key, OperatorAction::WriteOff, approved()),
    }
}

fn tombstone(key: TransactionKey) -> TombstoneRecord {
    TombstoneRecord {
        key,
        reason: ReversalReason::Unanswered,
        exclusion: vec![8],
        reversed_at: NOW,
    }
}

fn balance(store: &mut dyn Store, kind: &str) -> i64 {
    let balances = store.check_ledger().unwrap().balances;
    balances.iter().filter(|balance| balance.kind == kind).map(|found| found.balance_minor).sum()
}

// ---- Authorisations

fn an_approval_is_recorded_whole(store: &mut dyn Store) {
    let account = furnish(store);
    let subject = subject(key(1, 1), 1, 250);
    let facts = store.authorisation_facts(&subject).unwrap();
    assert_eq!(facts.earlier, None);
    assert_eq!(facts.terminal.as_ref().unwrap().merchant_id, "kiosk-1");
    let card = facts.card.as_ref().unwrap();
    assert_eq!((card.account, card.counter), (account, 0));
    assert!(facts.has_funds);
    let authorisation = authorisation(subject, approval(account, 250), 3);
    assert_eq!(store.record_authorisation(&authorisation, &facts), Ok(Written::Done));

    let record = store.transaction(&subject.key).unwrap().unwrap();
    let expected = TransactionRecord {
        key: subject.key,
        number: 1,
        state: TransactionState::Approved,
        request_digest: Some([1; 32]),
        offer_digest: Some(OfferDigest([2; 32])),
        command_digest: Some(CommandDigest([3; 32])),
        amount: Some(euros(250)),
        merchant_id: Some("kiosk-1".to_owned()),
        card: Some(card_id(1)),
        account: Some(account),
        card_hint: Some("abab".to_owned()),
        approval_code: Some("ABC123".to_owned()),
        authorisation_receipt: vec![4, 5, 6],
        capture_receipt: Vec::new(),
        reversal_receipt: Vec::new(),
        refund_receipt: Vec::new(),
        refunded_minor: 0,
        hold_until: Some(LATER),
        exclusion: vec![8],
        reversal_reason: None,
        created_at: NOW,
        captured_at: None,
        reversed_at: None,
        written_off_at: None,
    };
    assert_eq!(record, expected);
    assert_eq!(store.authorisation_facts(&subject).unwrap().earlier, Some(expected));
    assert_eq!(store.cards().unwrap()[0].counter, 3);
    let account = store.account(account).unwrap().unwrap();
    assert_eq!((account.available_minor, account.held_minor), (9_750, 250));
    contents(store);
}

fn a_decline_is_recorded_with_its_counter(store: &mut dyn Store) {
    furnish(store);
    let reason = DeclineReason::OverLimit;
    let subject = subject(key(1, 1), 1, 6_000);
    let facts = store.authorisation_facts(&subject).unwrap();
    let declined = authorisation(subject, Err(reason), 1);
    assert_eq!(store.record_authorisation(&declined, &facts), Ok(Written::Done));
    let record = store.transaction(&subject.key).unwrap().unwrap();
    assert_eq!(record.state, TransactionState::Declined(reason));
    assert_eq!(record.approval_code, None);
    assert_eq!(store.cards().unwrap()[0].counter, 1);
    // Of a terminal and a card that nobody knows.
    let unknown = AuthorisationSubject { card: None, ..self::subject(key(9, 1), 1, 250) };
    let facts = store.authorisation_facts(&unknown).unwrap();
    assert_eq!((&facts.terminal, &facts.card, facts.has_funds), (&None, &None, false));
    let declined = AuthorisationRecord {
        accepted_counter: None,
        ..authorisation(unknown, Err(DeclineReason::TerminalUnknown), 1)
    };
    assert_eq!(store.record_authorisation(&declined, &facts), Ok(Written::Done));
    let record = store.transaction(&unknown.key).unwrap().unwrap();
    assert_eq!((record.merchant_id, record.card, record.account), (None, None, None));
    assert_eq!(contents(store).entries.len(), 1);
}

fn facts_that_changed_leave_nothing(store: &mut dyn Store) {
    let account = furnish(store);
    type Change<'a> = &'a dyn Fn(&mut dyn Store);
    let changes: [Change<'_>; 6] = [
        &|store| approve(store, key(1, 2), 1, 100, 1),
        &|store| assert!(store.set_card_blocked(card_id(1), true).unwrap()),
        &|store| assert!(store.set_terminal_blocked(terminal_id(1), Some(NOW)).unwrap()),
        &|store| {
            assert!(store.issue_code(CodeSubject::Terminal(terminal_id(1)), &new_code(3)).unwrap());
            let code = new_code(3).digest;
            let facts = store.enrolment_facts(&code).unwrap().unwrap();
            let (terminal, keys) = (terminal_id(1), terminal_keys(7));
            let enrolment = TerminalEnrolmentRecord { code, used_by: [7; 32], terminal, keys };
            let written = store.record_terminal_enrolment(&enrolment, &facts);
            assert_eq!(written, Ok(Written::Done));
        },
        &|store| {
            let written = store.record_tombstone(&tombstone(key(1, 1)));
            assert_eq!(written, Ok(Written::Done));
        },
        // Leaves 10.00 EUR, and 50.00 EUR are to be paid.
        &|store| approve(store, key(1, 3), 2, 8_900, 1),
    ];
    for change in changes {
        let subject = subject(key(1, 1), 1, 5_000);
        let facts = store.authorisation_facts(&subject).unwrap();
        change(store);
        let outdated = authorisation(subject, approval(account, 5_000), 5);
        assert_outdated(store, |store| store.record_authorisation(&outdated, &facts));
    }
}

fn a_change_that_does_not_matter_does_not_matter(store: &mut dyn Store) {
    let account = furnish(store);
    let subject = subject(key(1, 1), 1, 250);
    let facts = store.authorisation_facts(&subject).unwrap();
    // Another card of the same account pays, and enough is left.
    approve(store, key(2, 1), 2, 1_000, 1);
    let authorisation = authorisation(subject, approval(account, 250), 1);
    assert_eq!(store.record_authorisation(&authorisation, &facts), Ok(Written::Done));
    assert_eq!(balance(store, "held"), 1_250);
}

fn a_transaction_is_recorded_once(store: &mut dyn Store) {
    let account = furnish(store);
    approve(store, key(1, 1), 1, 250, 1);
    let subject = subject(key(1, 1), 1, 250);
    let facts = store.authorisation_facts(&subject).unwrap();
    let again = authorisation(subject, approval(account, 250), 2);
    assert_rule_broken(store, |store| store.record_authorisation(&again, &facts));
}

fn a_counter_only_moves_up(store: &mut dyn Store) {
    let account = furnish(store);
    approve(store, key(1, 1), 1, 250, 5);
    for counter in [5, 4, 0] {
        let subject = subject(key(1, 2), 1, 250);
        let facts = store.authorisation_facts(&subject).unwrap();
        for verdict in [approval(account, 250), Err(DeclineReason::OverLimit)] {
            let replayed = authorisation(subject, verdict, counter);
            assert_rule_broken(store, |store| store.record_authorisation(&replayed, &facts));
        }
    }
    let fresh = subject(key(1, 2), 2, 250);
    let facts = store.authorisation_facts(&fresh).unwrap();
    let zero = authorisation(fresh, approval(account, 250), 0);
    assert_rule_broken(store, |store| store.record_authorisation(&zero, &facts));
    approve(store, key(1, 2), 1, 250, 6);
}

fn no_balance_goes_below_zero(store: &mut dyn Store) {
    let account = furnish(store);
    let subject = subject(key(1, 1), 1, 250);
    let facts = store.authorisation_facts(&subject).unwrap();
    let too_much = authorisation(subject, approval(account, OPENING_MINOR + 1), 1);
    assert_rule_broken(store, |store| store.record_authorisation(&too_much, &facts));
    approve(store, subject.key, 1, 250, 1);
    let too_much = capture(account, subject.key, 251);
    assert_rule_broken(store, |store| store.record_capture(&too_much));
    let too_much = reversal(account, subject.key, 251);
    assert_rule_broken(store, |store| store.record_reversal(&too_much));
}

// ---- Settlement

fn a_capture_and_a_reversal_move_the_money(store: &mut dyn Store) {
    let account = furnish(store);
    approve(store, key(1, 1), 1, 250, 1);
    approve(store, key(1, 2), 1, 100, 2);
    let written = store.record_capture(&capture(account, key(1, 1), 250));
    assert_eq!(written, Ok(Written::Done));
    assert_eq!((balance(store, "held"), balance(store, "payable")), (100, 250));
    let record = store.transaction(&key(1, 1)).unwrap().unwrap();
    assert_eq!((record.state, record.captured_at), (TransactionState::Captured, Some(LATER)));

    let key = key(1, 2);
    assert_eq!(store.record_reversal(&reversal(account, key, 100)), Ok(Written::Done));
    let record = store.transaction(&key).unwrap().unwrap();
    assert_eq!((record.state, record.reversed_at), (TransactionState::Reversed, Some(LATER)));
    assert_eq!(record.reversal_reason, Some(ReversalReason::DispenseFailed));
    assert_eq!((record.authorisation_receipt, record.reversal_receipt), (vec![4, 5, 6], vec![7]));
    assert_eq!(balance(store, "available"), i64::try_from(OPENING_MINOR).unwrap() - 250);
    contents(store);
}

fn refunds_give_back_what_was_captured_at_most(store: &mut dyn Store) {
    let account = furnish(store);
    // The merchant is owed more than this payment, which must not cover its refunds.
    approve(store, key(1, 9), 1, 1_000, 1);
    assert_eq!(store.record_capture(&capture(account, key(1, 9), 1_000)), Ok(Written::Done));
    let key = key(1, 1);
    approve(store, key, 1, 250, 2);
    // Not captured yet.
    assert_outdated(store, |store| store.record_refund(&refund(account, key, 1, 100, 0)));
    assert_eq!(store.record_capture(&capture(account, key, 250)), Ok(Written::Done));
    assert_rule_broken(store, |store| store.record_refund(&refund(account, key, 1, 251, 0)));
    assert_eq!(store.record_refund(&refund(account, key, 1, 100, 0)), Ok(Written::Done));
    let record = store.transaction(&key).unwrap().unwrap();
    assert_eq!((record.state, record.refunded_minor), (TransactionState::Captured, 100));
    assert_eq!((record.capture_receipt, record.refund_receipt), (vec![9], vec![1]));
    // What was decided before the first refund, and an id for the second time.
    assert_outdated(store, |store| store.record_refund(&refund(account, key, 2, 100, 0)));
    assert_rule_broken(store, |store| store.record_refund(&refund(account, key, 1, 100, 100)));
    assert_rule_broken(store, |store| store.record_refund(&refund(account, key, 2, 151, 100)));
    assert_eq!(store.record_refund(&refund(account, key, 2, 150, 100)), Ok(Written::Done));
    assert_rule_broken(store, |store| store.record_refund(&refund(account, key, 3, 1, 250)));
    assert_eq!((balance(store, "payable"), balance(store, "available")), (1_000, 9_000));
    let found = store.refund(RefundId([2; 16])).unwrap().unwrap();
    assert_eq!((found.key, found.after.refunded_minor), (key, 250));
    assert_eq!(store.refund(RefundId([3; 16])), Ok(None));
    let kinds: Vec<_> = contents(store).entries.iter().map(|entry| entry.kind.clone()).collect();
    assert_eq!(kinds, ["funding", "hold", "capture", "hold", "capture", "refund", "refund"]);
}

fn a_write_off_pays_both(store: &mut dyn Store) {
    let account = furnish(store);
    let key = key(1, 1);
    assert_outdated(store, |store| store.record_write_off(&write_off(account, key, 250)));
    approve(store, key, 1, 250, 1);
    assert_eq!(store.record_write_off(&write_off(account, key, 250)), Ok(Written::Done));
    let record = store.transaction(&key).unwrap().unwrap();
    assert_eq!((record.state, record.reversal_receipt), (TransactionState::Reversed, vec![7]));
    assert_eq!((record.reversed_at, record.written_off_at), (Some(LATER), Some(LATER)));
    assert_eq!((balance(store, "available"), balance(store, "held")), (10_000, 0));
    assert_eq!((balance(store, "payable"), balance(store, "loss")), (250, -250));
    assert_outdated(store, |store| store.record_write_off(&write_off(account, key, 250)));
    assert_outdated(store, |store| store.record_capture(&capture(account, key, 250)));
    contents(store);
}

fn what_operators_do_is_logged_with_it(store: &mut dyn Store) {
    let account = furnish(store);
    for id in 1..=3 {
        approve(store, key(1, id), 1, 100, id.into());
    }
    let captured = audit(key(1, 1), OperatorAction::Capture, approved());
    let with_audit =
        CaptureRecord { audit: Some(captured.clone()), ..capture(account, key(1, 1), 100) };
    assert_eq!(store.record_capture(&with_audit), Ok(Written::Done));
    assert_outdated(store, |store| store.record_capture(&with_audit));
    let reversed = audit(key(1, 2), OperatorAction::Reverse, approved());
    let with_audit = ReversalRecord {
        audit: Some(reversed.clone()),
        reason: None,
        ..reversal(account, key(1, 2), 100)
    };
    assert_eq!(store.record_reversal(&with_audit), Ok(Written::Done));
    let written_off = write_off(account, key(1, 3), 100);
    assert_eq!(store.record_write_off(&written_off), Ok(Written::Done));
    let all = [(1, captured.clone()), (2, reversed), (3, written_off.audit)];
    assert_eq!(store.newest_audit_entries(None, 9).unwrap(), all);
    assert_eq!(store.newest_audit_entries(None, 2).unwrap(), all[1..]);
    assert_eq!(store.newest_audit_entries(Some(&key(1, 1)), 9).unwrap(), [(1, captured)]);
    assert_eq!(store.newest_audit_entries(Some(&key(2, 1)), 9).unwrap(), []);
}

fn a_request_is_carried_out_once(store: &mut dyn Store) {
    let account = furnish(store);
    let key = key(1, 1);
    approve(store, key, 1, 250, 1);
    assert_eq!(store.record_capture(&capture(account, key, 250)), Ok(Written::Done));
    let of_refund = refund(account, key, 1, 100, 0);
    let request = NewOperationRequest {
        requested_at: NOW,
        operator: "anna".to_owned(),
        key,
        action: of_refund.audit.action,
        reason: "the machine burnt down".to_owned(),
    };
    assert_eq!(store.add_request(&request), Ok(1));
    assert_eq!(store.add_request(&request), Ok(2));
    let with_request = |record: RefundRecord, number| RefundRecord {
        audit: AuditEntry {
            approved_by: Some("berta".to_owned()),
            request: Some(number),
            ..record.audit.clone()
        },
        ..record
    };
    let first = with_request(of_refund, 1);
    assert_eq!(store.record_refund(&first), Ok(Written::Done));
    let decision = |is_confirmed| RequestDecision {
        decided_at: LATER,
        decided_by: "berta".to_owned(),
        is_confirmed,
    };
    assert_eq!(store.request(1).unwrap().unwrap().decision, Some(decision(true)));
    let again = with_request(refund(account, key, 2, 100, 100), 1);
    assert_outdated(store, |store| store.record_refund(&again));
    assert_outdated(store, |store| store.refuse_request(1, &decision(false)));
    assert_eq!(store.refuse_request(2, &decision(false)), Ok(Written::Done));
    let refused = with_request(refund(account, key, 2, 100, 100), 2);
    assert_outdated(store, |store| store.record_refund(&refused));
    assert_eq!(store.request(3), Ok(None));
    assert_eq!(store.requests().unwrap().len(), 2);
}

fn operators_are_kept_by_name(store: &mut dyn Store) {
    let operator = |name: &str, number| RegisteredOperator {
        name: name.parse().unwrap(),
        key_digest: [number; 32],
        not_after: LATER,
        removed_at: None,
    };
    let removed = RegisteredOperator { removed_at: Some(NOW), ..operator("berta", 2) };
    for put in [&operator("berta", 2), &operator("anna", 1), &removed, &operator("anna", 3)] {
        store.put_operator(put).unwrap();
    }
    assert_eq!(store.operators().unwrap(), [operator("anna", 3), removed]);
}

/// Two accounts with money held and captured, so that a wrong entry has something to take.
fn furnish_two_accounts(store: &mut dyn Store) -> (AccountId, AccountId) {
    let account = furnish(store);
    let currency = "EUR".parse().unwrap();
    let opening_balance = Some(euros(OPENING_MINOR));
    let other = NewAccount { name: "Bob".to_owned(), currency, opening_balance, created_at: NOW };
    let other = store.create_account(&other).unwrap();
    store.add_card(&new_card(3, other), &new_code(13)).unwrap();
    assert_eq!(enrol_card(store, 13, 3), Written::Done);
    for id in 1..=4 {
        approve(store, key(1, id), 1, 100, id.into());
    }
    approve(store, key(2, 1), 3, 500, 1);
    approve(store, key(2, 2), 3, 500, 2);
    assert_eq!(store.record_capture(&capture(other, key(2, 2), 500)), Ok(Written::Done));
    (account, other)
}

/// Has `write` make one entry between these accounts, which the check finds.
fn assert_found(
    store: &mut dyn Store,
    (kind, from, to): (EntryKind, LedgerAccount, LedgerAccount),
    write: impl FnOnce(&mut dyn Store, Transfer) -> Result<Written, StoreError>,
) {
    let count = |store: &mut dyn Store| {
        let faults = store.check_ledger().unwrap().faults;
        faults.iter().filter(|fault| fault.rule == "entry_touches_its_accounts").count()
    };
    let before = count(store);
    let words = format!("a {kind:?} from {from:?} to {to:?}");
    let transfer = Transfer::planted(kind, from, to, euros(100));
    assert_eq!(write(store, transfer), Ok(Written::Done), "{words}");
    assert!(count(store) > before, "{words}: {:?}", store.check_ledger().unwrap().faults);
}

fn payable(merchant: &str) -> LedgerAccount {
    LedgerAccount::Payable(merchant.to_owned())
}

fn the_check_finds_entries_that_touch_wrong_accounts(store: &mut dyn Store) {
    let (account, other) = furnish_two_accounts(store);
    let (held, available) = (LedgerAccount::Held, LedgerAccount::Available);
    // A reversal that credits another cardholder.
    let wrong = (EntryKind::Reversal, held(account), available(other));
    assert_found(store, wrong, |store, transfer| {
        store.record_reversal(&ReversalRecord { transfer, ..reversal(account, key(1, 1), 100) })
    });
    // A capture that takes from another cardholder, and one that pays another merchant.
    for (id, from, to) in [(2, held(other), "kiosk-1"), (3, held(account), "kiosk-2")] {
        assert_found(store, (EntryKind::Capture, from, payable(to)), |store, transfer| {
            store.record_capture(&CaptureRecord { transfer, ..capture(account, key(1, id), 100) })
        });
    }
    // A hold on another cardholder's money.
    let wrong = (EntryKind::Hold, available(other), held(account));
    assert_found(store, wrong, |store, hold| {
        let subject = subject(key(1, 6), 1, 100);
        let facts = store.authorisation_facts(&subject).unwrap();
        let approval = Approval { hold, ..approval(account, 100).unwrap() };
        store.record_authorisation(&authorisation(subject, Ok(approval), 6), &facts)
    });
}

fn the_check_finds_refunds_and_write_offs_of_others(store: &mut dyn Store) {
    let (account, other) = furnish_two_accounts(store);
    let available = LedgerAccount::Available;
    assert_eq!(store.record_capture(&capture(account, key(1, 1), 100)), Ok(Written::Done));
    assert_eq!(store.record_capture(&capture(account, key(1, 2), 100)), Ok(Written::Done));
    // A refund to another cardholder, and one at another merchant's cost.
    for (id, from, to) in [(1, "kiosk-1", other), (2, "kiosk-2", account)] {
        let wrong = (EntryKind::Refund, payable(from), available(to));
        assert_found(store, wrong, |store, transfer| {
            store.record_refund(&RefundRecord {
                transfer,
                ..refund(account, key(1, id), id, 100, 0)
            })
        });
    }
    // A write-off that another merchant gets, and one that a cardholder pays.
    for (id, from, to) in [(3, LedgerAccount::Loss, "kiosk-2"), (4, available(other), "kiosk-1")] {
        assert_found(store, (EntryKind::WriteOff, from, payable(to)), |store, payment| {
            store.record_write_off(&WriteOffRecord {
                payment,
                ..write_off(account, key(1, id), 100)
            })
        });
    }
}

fn evidence_is_kept_as_it_came(store: &mut dyn Store) {
    furnish(store);
    approve(store, key(1, 1), 1, 250, 1);
    let evidence = Evidence {
        offer: vec![1, 2, 3],
        sealed_command: vec![5, 6],
        signed_command: Some(vec![7]),
        card_public_key: Some(card_key(1).public_key.to_sec1()),
    };
    assert_eq!(store.evidence(&key(1, 1)), Ok(Some(evidence.clone())));
    // A newer enrolment changes the card's key, and not what was kept.
    assert!(store.issue_code(CodeSubject::Card(card_id(1)), &new_code(3)).unwrap());
    assert_eq!(enrol_card(store, 3, 1), Written::Done);
    assert_eq!(store.evidence(&key(1, 1)), Ok(Some(evidence)));
    assert_eq!(store.record_tombstone(&tombstone(key(1, 2))), Ok(Written::Done));
    assert_eq!(store.evidence(&key(1, 2)), Ok(None));
    assert_eq!(store.evidence(&key(1, 3)), Ok(None));
}

fn approved_transactions_are_listed_oldest_first(store: &mut dyn Store) {
    let account = furnish(store);
    for id in 1..=4 {
        approve(store, key(1, id), 1, 100, id.into());
    }
    approve(store, key(2, 5), 2, 100, 1);
    assert_eq!(store.record_capture(&capture(account, key(1, 2), 100)), Ok(Written::Done));
    assert_eq!(store.record_reversal(&reversal(account, key(1, 3), 100)), Ok(Written::Done));
    let keys = |records: Vec<TransactionRecord>| -> Vec<_> {
        records.into_iter().map(|record| record.key).collect()
    };
    let all = keys(store.approved_transactions(None, 9).unwrap());
    assert_eq!(all, [key(1, 1), key(1, 4), key(2, 5)]);
    assert_eq!(keys(store.approved_transactions(None, 2).unwrap()), all[..2]);
    let of_second = keys(store.approved_transactions(Some(terminal_id(2)), 9).unwrap());
    assert_eq!(of_second, all[2..]);
}

fn tombstones_are_counted_by_terminal_and_time(store: &mut dyn Store) {
    furnish(store);
    approve(store, key(1, 9), 1, 250, 1);
    for (id, reversed_at) in [(1, NOW), (2, NOW), (3, LATER)] {
        let record = TombstoneRecord { reversed_at, ..tombstone(key(1, id)) };
        assert_eq!(store.record_tombstone(&record), Ok(Written::Done));
    }
    assert_eq!(store.record_tombstone(&tombstone(key(2, 1))), Ok(Written::Done));
    assert_eq!(store.tombstones_since(terminal_id(1), NOW), Ok(3));
    assert_eq!(store.tombstones_since(terminal_id(1), LATER), Ok(1));
    assert_eq!(store.tombstones_since(terminal_id(3), NOW), Ok(0));
}

fn what_was_settled_meanwhile_is_outdated(store: &mut dyn Store) {
    let account = furnish(store);
    let key = key(1, 1);
    // Never seen.
    assert_outdated(store, |store| store.record_capture(&capture(account, key, 250)));
    let early = reversal(account, key, 250);
    assert_outdated(store, |store| store.record_reversal(&early));
    approve(store, key, 1, 250, 1);
    assert_eq!(store.record_capture(&capture(account, key, 250)), Ok(Written::Done));
    // Captured, so there is no second capture, and the hold can no longer be given back.
    assert_outdated(store, |store| store.record_capture(&capture(account, key, 250)));
    assert_outdated(store, |store| store.record_reversal(&early));
}

fn a_tombstone_is_recorded_once(store: &mut dyn Store) {
    let account = furnish(store);
    assert_eq!(store.record_tombstone(&tombstone(key(1, 1))), Ok(Written::Done));
    assert_outdated(store, |store| store.record_tombstone(&tombstone(key(1, 1))));
    let record = store.transaction(&key(1, 1)).unwrap().unwrap();
    assert_eq!(record.state, TransactionState::Reversed);
    assert_eq!((record.request_digest, record.amount, record.card), (None, None, None));
    assert_eq!((record.created_at, record.reversed_at), (NOW, Some(NOW)));
    let of_tombstone = reversal(account, key(1, 1), 250);
    assert_outdated(store, |store| store.record_reversal(&of_tombstone));
    approve(store, key(1, 2), 1, 250, 1);
    assert_outdated(store, |store| store.record_tombstone(&tombstone(key(1, 2))));
}

// ---- Inquiries

fn an_id_belongs_to_its_terminal(store: &mut dyn Store) {
    furnish(store);
    approve(store, key(1, 1), 1, 250, 1);
    assert_eq!(store.transaction(&key(2, 1)).unwrap(), None);
    approve(store, key(2, 1), 1, 100, 2);
    let with_id = store.transactions_with_id(key(1, 1).id).unwrap();
    let keys: Vec<_> = with_id.iter().map(|record| record.key).collect();
    assert_eq!(keys, [key(1, 1), key(2, 1)]);
    let newest = store.newest_transactions(None, 1).unwrap();
    assert_eq!(newest[0].key, key(2, 1));
    let of_first = store.newest_transactions(Some(terminal_id(1)), 10).unwrap();
    assert_eq!(of_first.iter().map(|record| record.key).collect::<Vec<_>>(), [key(1, 1)]);
}

fn a_page_has_its_period_its_order_and_its_limit(store: &mut dyn Store) {
    let at = |seconds: u64| UnixTime { seconds: NOW.seconds + seconds };
    // Two of the same second, and one whose clock was behind.
    for (id, seconds) in [(1, 10), (2, 20), (3, 20), (4, 5), (5, 30)] {
        let tombstone = TombstoneRecord { reversed_at: at(seconds), ..tombstone(key(1, id)) };
        assert_eq!(store.record_tombstone(&tombstone), Ok(Written::Done));
    }
    assert_eq!(store.record_tombstone(&tombstone(key(2, 6))), Ok(Written::Done));
    let mut page = |from: u64, until: u64, after: Option<PageEnd>, limit| {
        let (from, until) = (at(from), at(until));
        let query = PageQuery { terminal: terminal_id(1), from, until, after, limit };
        store.transaction_page(&query).unwrap()
    };
    let ids = |records: &[TransactionRecord]| -> Vec<TransactionId> {
        records.iter().map(|record| record.key.id).collect()
    };
    let expected =
        |ids: &[u8]| -> Vec<TransactionId> { ids.iter().map(|id| key(1, *id).id).collect() };
    assert_eq!(ids(&page(0, 100, None, 10)), expected(&[4, 1, 2, 3, 5]));
    assert_eq!(ids(&page(10, 30, None, 10)), expected(&[1, 2, 3]));
    let first = page(0, 100, None, 3);
    assert_eq!(ids(&first), expected(&[4, 1, 2]));
    let after = PageEnd::of(first.last().unwrap());
    assert_eq!(ids(&page(0, 100, Some(after), 3)), expected(&[3, 5]));
    // The end of a page before the period does not widen the period.
    let early = PageEnd::of(&first[0]);
    assert_eq!(ids(&page(20, 100, Some(early), 10)), expected(&[2, 3, 5]));
    assert_eq!(ids(&page(40, 100, None, 10)), expected(&[]));
    let all = PageQuery {
        terminal: terminal_id(1),
        from: UnixTime { seconds: 0 },
        until: UnixTime { seconds: u64::MAX },
        after: None,
        limit: u32::MAX,
    };
    assert_eq!(store.transaction_page(&all).unwrap().len(), 5);
}

// ---- Enrolment

fn a_card_has_its_transactions_newest_first(store: &mut dyn Store) {
    furnish(store);
    for (id, card, counter) in [(1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 1, 3)] {
        approve(store, key(1, id), card, 250, counter);
    }
    let mut ids = |card, before, limit| {
        let records = store.card_transactions(card_id(card), before, limit).unwrap();
        assert!(records.iter().all(|record| record.card == Some(card_id(card))));
        records.iter().map(|record| record.number).collect::<Vec<_>>()
    };
    assert_eq!(ids(1, None, 100), [4, 3, 1]);
    assert_eq!(ids(1, None, 2), [4, 3]);
    assert_eq!(ids(1, Some(3), 100), [1]);
    assert_eq!(ids(1, Some(1), 100), [] as [i64; 0]);
    assert_eq!(ids(2, None, 100), [2]);
    assert_eq!(ids(9, None, 100), [] as [i64; 0]);
    let card = store.card(card_id(2)).unwrap().unwrap();
    assert_eq!((card.id, card.counter), (card_id(2), 1));
    assert_eq!(store.card(card_id(9)).unwrap(), None);
}

fn a_number_is_used_once_in_an_era(store: &mut dyn Store) {
    furnish(store);
    approve(store, key(1, 1), 1, 250, 1);
    let first = subject(key(1, 1), 1, 250);
    let second = AuthorisationSubject { sequence: first.sequence, ..subject(key(1, 2), 1, 250) };
    assert_eq!(store.authorisation_facts(&first).unwrap().sequence_used_by, None, "a repeat");
    let facts = store.authorisation_facts(&second).unwrap();
    assert_eq!(facts.sequence_used_by, Some(first.key.id));
    let account = facts.card.as_ref().unwrap().account;
    let refused = authorisation(second, approval(account, 250), 2);
    assert_rule_broken(store, |store| store.record_authorisation(&refused, &facts));
    let others = AuthorisationSubject { key: key(2, 2), ..second };
    assert_eq!(store.authorisation_facts(&others).unwrap().sequence_used_by, None);

    let entry = MaintenanceEntry {
        made_at: LATER,
        operator: "Olivia".to_owned(),
        action: MaintenanceAction::ClearCopy(terminal_id(1)),
        reason: "the copy was destroyed".to_owned(),
    };
    let clear = |store: &mut dyn Store| store.clear_terminal_copied(terminal_id(1), &entry);
    assert_outdated(store, clear);
    store.set_terminal_copied(terminal_id(1), NOW).unwrap();
    store.set_terminal_copied(terminal_id(1), LATER).unwrap();
    let copied_at =
        |store: &mut dyn Store| store.terminal(terminal_id(1)).unwrap().unwrap().copied_at;
    assert_eq!(copied_at(store), Some(NOW), "the first time is kept");
    assert_eq!(clear(store), Ok(Written::Done));
    assert_eq!(copied_at(store), None);
    assert_eq!(store.newest_maintenance(9).unwrap(), [entry]);
    assert_eq!(store.authorisation_facts(&second).unwrap().sequence_used_by, None, "a new era");

    // So does a new enrolment begin one.
    approve(store, key(1, 3), 1, 250, 3);
    store.set_terminal_copied(terminal_id(1), NOW).unwrap();
    store.issue_code(CodeSubject::Terminal(terminal_id(1)), &new_code(60)).unwrap();
    assert_eq!(enrol_terminal(store, 60, 1), Written::Done);
    let again = AuthorisationSubject { sequence: 4, ..subject(key(1, 9), 1, 250) };
    assert_eq!(copied_at(store), None);
    assert_eq!(store.authorisation_facts(&again).unwrap().sequence_used_by, None);
}

fn what_is_presented_again_never_lowers_a_counter(store: &mut dyn Store) {
    furnish(store);
    approve(store, key(1, 1), 1, 250, 7);
    let again = |store: &mut dyn Store, id, counter| {
        let subject = subject(key(1, id), 1, 250);
        let facts = store.authorisation_facts(&subject).unwrap();
        let account = facts.card.as_ref().unwrap().account;
        let record = AuthorisationRecord {
            is_presented: true,
            ..authorisation(subject, approval(account, 250), counter)
        };
        store.record_authorisation(&record, &facts)
    };
    assert_eq!(again(store, 2, 3), Ok(Written::Done));
    assert_eq!(store.cards().unwrap()[0].counter, 7);
    assert_rule_broken(store, |store| again(store, 3, 3));
    assert_eq!(again(store, 4, 9), Ok(Written::Done));
    assert_eq!(store.cards().unwrap()[0].counter, 9);
    contents(store);
}

fn a_life_goes_on_until_another_begins(store: &mut dyn Store) {
    furnish(store);
    let first = store.life().unwrap();
    assert!(!first.is_copy);
    store.note_server_start(&[7; 16]).unwrap();
    approve(store, key(1, 1), 1, 250, 1);
    let second = store.life().unwrap();
    assert_eq!((second.generation, second.server_start), (first.generation, [7; 16]));
    assert!(first.progress.is_behind(second.progress));
    assert!(
        !second.progress.is_behind(first.progress) && !first.progress.is_behind(first.progress)
    );
    let entry = MaintenanceEntry {
        made_at: LATER,
        operator: "Olivia".to_owned(),
        action: MaintenanceAction::AdoptStore,
        reason: "the disk was lost".to_owned(),
    };
    store.begin_generation(&[9; 16], &entry).unwrap();
    let third = store.life().unwrap();
    assert_eq!((third.generation, third.progress), ([9; 16], second.progress));
    assert_ne!(third.server_start, second.server_start);
    assert_eq!(store.newest_maintenance(9).unwrap(), [entry]);
}

fn a_renewed_key_waits_for_its_first_use(store: &mut dyn Store) {
    furnish(store);
    let id = terminal_id(1);
    let next = |number| NextClient { key_digest: [number; 32], certificate_not_after: LATER };
    assert!(!store.set_next_client(terminal_id(9), &next(7)).unwrap());
    assert!(store.set_next_client(id, &next(7)).unwrap());
    assert!(store.set_next_client(id, &next(8)).unwrap());
    let terminal = store.terminal(id).unwrap().unwrap();
    assert_eq!((terminal.client_key_digest, terminal.next_client), (Some([1; 32]), Some(next(8))));
    assert_outdated(store, |store| store.use_next_client(id, &[7; 32]));
    assert_eq!(store.use_next_client(id, &[8; 32]), Ok(Written::Done));
    assert_outdated(store, |store| store.use_next_client(id, &[8; 32]));
    let renewed = store.terminal(id).unwrap().unwrap();
    assert_eq!((renewed.client_key_digest, renewed.next_client), (Some([8; 32]), None));
    assert_eq!(renewed.certificate_not_after, Some(LATER));
    assert_eq!(renewed.channel_key, terminal.channel_key, "the channel key stays");
}

fn a_code_enrols_a_terminal(store: &mut dyn Store) {
    store.add_terminal(&new_terminal(1), &new_code(1)).unwrap();
    let code = new_code(1).digest;
    assert_eq!(store.enrolment_facts(&new_code(9).digest), Ok(None));
    let facts = store.enrolment_facts(&code).unwrap().unwrap();
    assert_eq!((facts.not_after, facts.used_by), (LATER, None));
    let EnrolmentSubject::Terminal(terminal) = &facts.subject else { panic!("{facts:?}") };
    assert_eq!((terminal.id, terminal.state), (terminal_id(1), EnrolmentState::Pending));
    assert_eq!(enrol_terminal(store, 1, 1), Written::Done);
    let terminal = store.terminal(terminal_id(1)).unwrap().unwrap();
    assert_eq!(terminal.state, EnrolmentState::Active);
    assert_eq!(terminal.client_key_digest, Some([1; 32]));
    assert_eq!(terminal.certificate_not_after, Some(LATER));
    // What was decided before somebody else used the code.
    let late = TerminalEnrolmentRecord {
        code,
        used_by: [2; 32],
        terminal: terminal_id(1),
        keys: terminal_keys(2),
    };
    assert_outdated(store, |store| store.record_terminal_enrolment(&late, &facts));
    assert_eq!(store.enrolment_facts(&code).unwrap().unwrap().used_by, Some([1; 32]));
    // A repeat on the newer facts.
    assert_eq!(enrol_terminal(store, 1, 1), Written::Done);
}

fn a_code_enrols_a_card_and_the_counter_stays(store: &mut dyn Store) {
    let account = furnish(store);
    approve(store, key(1, 1), 1, 250, 5);
    assert!(store.issue_code(CodeSubject::Card(card_id(1)), &new_code(3)).unwrap());
    let facts = store.enrolment_facts(&new_code(3).digest).unwrap().unwrap();
    let EnrolmentSubject::Card(card) = &facts.subject else { panic!("{facts:?}") };
    assert_eq!((card.id, card.account, card.counter), (card_id(1), account, 5));
    let enrolment = CardEnrolmentRecord {
        code: new_code(3).digest,
        used_by: [9; 32],
        card: card_id(1),
        key: card_key(9),
    };
    assert_eq!(store.record_card_enrolment(&enrolment, &facts), Ok(Written::Done));
    let card = &store.cards().unwrap()[0];
    assert_eq!(card.public_key, Some(card_key(9).public_key));
    assert_eq!((card.not_after, card.counter), (Some(LATER), 5));
    assert_outdated(store, |store| store.record_card_enrolment(&enrolment, &facts));
}

fn a_newer_code_voids_the_unused_ones(store: &mut dyn Store) {
    furnish(store);
    let terminal = CodeSubject::Terminal(terminal_id(1));
    assert!(store.issue_code(terminal, &new_code(3)).unwrap());
    assert!(store.issue_code(terminal, &new_code(4)).unwrap());
    assert_eq!(store.enrolment_facts(&new_code(3).digest), Ok(None));
    assert!(store.enrolment_facts(&new_code(4).digest).unwrap().is_some());
    // The used one stays, and so do those of others.
    assert!(store.enrolment_facts(&new_code(1).digest).unwrap().is_some());
    assert!(store.enrolment_facts(&new_code(2).digest).unwrap().is_some());
    for subject in [CodeSubject::Terminal(terminal_id(9)), CodeSubject::Card(card_id(9))] {
        assert_eq!(store.issue_code(subject, &new_code(5)), Ok(false));
        assert_eq!(store.enrolment_facts(&new_code(5).digest), Ok(None));
    }
    let used = new_code(1);
    assert_rule_broken(store, |store| store.issue_code(terminal, &used));
    let another = CodeSubject::Terminal(terminal_id(2));
    assert_rule_broken(store, |store| store.issue_code(another, &new_code(4)));
}

// ---- Registry

fn what_exists_is_not_added_again(store: &mut dyn Store) {
    let account = furnish(store);
    assert_rule_broken(store, |store| store.add_terminal(&new_terminal(1), &new_code(5)));
    assert_rule_broken(store, |store| store.add_terminal(&new_terminal(3), &new_code(1)));
    assert_rule_broken(store, |store| store.add_card(&new_card(1, account), &new_code(5)));
    assert_rule_broken(store, |store| store.add_card(&new_card(3, account), &new_code(11)));
    let nobody = AccountId(7);
    assert_rule_broken(store, |store| store.add_card(&new_card(3, nobody), &new_code(5)));
    assert_eq!(store.enrolment_facts(&new_code(5).digest), Ok(None));
    assert_eq!(store.account(nobody), Ok(None));
    assert_eq!(store.account(AccountId(0)), Ok(None));
    assert_eq!(store.account(AccountId(i64::MIN)), Ok(None));
    assert_eq!(store.terminal(terminal_id(9)), Ok(None));
    let ids: Vec<_> = store.terminals().unwrap().iter().map(|terminal| terminal.id).collect();
    assert_eq!(ids, [terminal_id(1), terminal_id(2)]);
    let ids: Vec<_> = store.cards().unwrap().iter().map(|card| card.id).collect();
    assert_eq!(ids, [card_id(1), card_id(2)]);
}

fn blocking_is_seen_and_undone(store: &mut dyn Store) {
    furnish(store);
    for (is_blocked, state) in [(true, EnrolmentState::Blocked), (false, EnrolmentState::Active)] {
        let blocked_at = is_blocked.then_some(NOW);
        assert_eq!(store.set_terminal_blocked(terminal_id(1), blocked_at), Ok(true));
        // Again, later: it was blocked before.
        let again = is_blocked.then_some(LATER);
        assert_eq!(store.set_terminal_blocked(terminal_id(1), again), Ok(true));
        let terminal = store.terminal(terminal_id(1)).unwrap().unwrap();
        assert_eq!((terminal.state, terminal.blocked_at), (state, blocked_at));
        assert_eq!(store.set_card_blocked(card_id(1), is_blocked), Ok(true));
        assert_eq!(store.cards().unwrap()[0].state, state);
    }
    assert_eq!(store.cards().unwrap()[1].state, EnrolmentState::Active);
    assert_eq!(store.set_terminal_blocked(terminal_id(9), Some(NOW)), Ok(false));
    assert_eq!(store.set_card_blocked(card_id(9), true), Ok(false));
}

// ---- Books

fn entries_and_totals_are_reported(store: &mut dyn Store) {
    let account = furnish(store);
    let francs = NewAccount {
        name: "Bob".to_owned(),
        currency: "CHF".parse().unwrap(),
        opening_balance: None,
        created_at: NOW,
    };
    assert_eq!(store.create_account(&francs), Ok(AccountId(2)));
    approve(store, key(1, 1), 1, 250, 1);
    assert_eq!(store.record_capture(&capture(account, key(1, 1), 250)), Ok(Written::Done));
    approve(store, key(2, 2), 1, 100, 2);
    assert_eq!(store.record_tombstone(&tombstone(key(1, 3))), Ok(Written::Done));
    let report = contents(store).report;
    assert_eq!(report.entries, 4);
    let balances: Vec<_> = report
        .balances
        .iter()
        .map(|found| (found.kind.as_str(), found.owner.as_str(), found.balance_minor))
        .collect();
    let expected = [
        ("available", "1", 9_650),
        ("funding", "", -10_000),
        ("held", "1", 100),
        ("payable", "kiosk-1", 250),
    ];
    assert_eq!(balances, expected);
    let totals: Vec<_> = report
        .states
        .iter()
        .map(|total| {
            (total.state.as_str(), total.currency.as_str(), total.count, total.amount_minor)
        })
        .collect();
    let expected =
        [("approved", "EUR", 1, 100), ("captured", "EUR", 1, 250), ("reversed", "", 1, 0)];
    assert_eq!(totals, expected);

    let entries = store.newest_ledger_entries(2).unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.number, entry.kind.as_str())).collect();
    assert_eq!(kinds, [(3, "capture"), (4, "hold")]);
    assert_eq!((entries[0].transaction_id, entries[0].made_at), (Some(key(1, 1).id), LATER));
    let postings: Vec<_> = entries[0]
        .postings
        .iter()
        .map(|posting| (posting.kind.as_str(), posting.owner.as_str(), posting.balance_minor))
        .collect();
    assert_eq!(postings, [("held", "1", -250), ("payable", "kiosk-1", 250)]);
}

// ---- Random histories

/// One call of a random history.
#[derive(Debug, Clone)]
enum Call {
    Authorise {
        key: TransactionKey,
        card: u8,
        minor: u64,
        counter: u64,
        is_approved: bool,
    },
    /// With the facts of the call before, which may be outdated.
    AuthoriseLate {
        counter: u64,
    },
    Capture {
        key: TransactionKey,
        minor: u64,
    },
    Reverse {
        key: TransactionKey,
        minor: u64,
    },
    Refund {
        key: TransactionKey,
        number: u8,
        minor: u64,
        before: u64,
    },
    WriteOff {
        key: TransactionKey,
        minor: u64,
    },
    Bury {
        key: TransactionKey,
    },
    BlockCard {
        card: u8,
        is_blocked: bool,
    },
    BlockTerminal {
        terminal: u8,
        is_blocked: bool,
    },
    IssueCode {
        card: u8,
        code: u8,
    },
    EnrolCard {
        code: u8,
        card: u8,
    },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let keys = || (1..=3_u8, 1..=4_u8).prop_map(|(terminal, id)| key(terminal, id));
    let minors = || prop::sample::select(vec![100_u64, 4_000, 9_000, OPENING_MINOR + 1]);
    let authorise = (keys(), 1..=3_u8, minors(), 0..9_u64, any::<bool>()).prop_map(
        |(key, card, minor, counter, is_approved)| Call::Authorise {
            key,
            card,
            minor,
            counter,
            is_approved,
        },
    );
    let befores = prop::sample::select(vec![0_u64, 50, 100]);
    let refund = (keys(), 1..=4_u8, prop::sample::select(vec![50_u64, 100, 4_000]), befores)
        .prop_map(|(key, number, minor, before)| Call::Refund { key, number, minor, before });
    let call = prop_oneof![
        5 => authorise,
        2 => (0..9_u64).prop_map(|counter| Call::AuthoriseLate { counter }),
        3 => (keys(), minors()).prop_map(|(key, minor)| Call::Capture { key, minor }),
        2 => (keys(), minors()).prop_map(|(key, minor)| Call::Reverse { key, minor }),
        3 => refund,
        1 => (keys(), minors()).prop_map(|(key, minor)| Call::WriteOff { key, minor }),
        1 => keys().prop_map(|key| Call::Bury { key }),
        1 => (1..=3_u8, any::<bool>())
            .prop_map(|(card, is_blocked)| Call::BlockCard { card, is_blocked }),
        1 => (1..=3_u8, any::<bool>())
            .prop_map(|(terminal, is_blocked)| Call::BlockTerminal { terminal, is_blocked }),
        1 => (1..=3_u8, 11..=14_u8).prop_map(|(card, code)| Call::IssueCode { card, code }),
        1 => (11..=14_u8, 1..=3_u8).prop_map(|(code, card)| Call::EnrolCard { code, card }),
    ];
    prop::collection::vec(call, 1..40)
}

/// One store in a random history, and the last facts that it gave.
struct Player<'store> {
    store: &'store mut dyn Store,
    account: AccountId,
    last: Option<(AuthorisationSubject, AuthorisationFacts)>,
}

impl Player<'_> {
    /// The result of the call, with the kind of its error.
    fn play(&mut self, call: &Call) -> Result<String, &'static str> {
        let done = match call.clone() {
            Call::Authorise { key, card, minor, counter, is_approved } => {
                let subject = subject(key, card, minor);
                let facts = self.store.authorisation_facts(&subject).unwrap();
                self.last = Some((subject, facts));
                self.authorise_on_last(counter, is_approved)
            }
            Call::AuthoriseLate { counter } => self.authorise_on_last(counter, true),
            Call::Capture { key, minor } => {
                let record = capture(self.account, key, minor);
                self.store.record_capture(&record).map(|written| format!("{written:?}"))
            }
            Call::Reverse { key, minor } => {
                let record = reversal(self.account, key, minor);
                self.store.record_reversal(&record).map(|written| format!("{written:?}"))
            }
            Call::Refund { key, number, minor, before } => {
                let record = refund(self.account, key, number, minor, before);
                self.store.record_refund(&record).map(|written| format!("{written:?}"))
            }
            Call::WriteOff { key, minor } => {
                let record = write_off(self.account, key, minor);
                self.store.record_write_off(&record).map(|written| format!("{written:?}"))
            }
            Call::Bury { key } => {
                self.store.record_tombstone(&tombstone(key)).map(|written| format!("{written:?}"))
            }
            Call::BlockCard { card, is_blocked } => self
                .store
                .set_card_blocked(card_id(card), is_blocked)
                .map(|found| found.to_string()),
            Call::BlockTerminal { terminal, is_blocked } => self
                .store
                .set_terminal_blocked(terminal_id(terminal), is_blocked.then_some(NOW))
                .map(|found| found.to_string()),
            Call::IssueCode { card, code } => self
                .store
                .issue_code(CodeSubject::Card(card_id(card)), &new_code(code))
                .map(|found| found.to_string()),
            Call::EnrolCard { code, card } => self.enrol_card(code, card),
        };
        done.map_err(|error| match error {
            StoreError::RuleBroken { .. } => "rule broken",
            StoreError::Busy | StoreError::Failed { .. } | StoreError::Corrupt { .. } => {
                panic!("{error}")
            }
        })
    }

    fn authorise_on_last(&mut self, counter: u64, is_approved: bool) -> Result<String, StoreError> {
        let Some((subject, facts)) = &self.last else { return Ok("nothing".to_owned()) };
        let minor = subject.amount.minor();
        let is_known = facts.terminal.is_some() && facts.card.is_some();
        let verdict = if is_approved && is_known {
            approval(self.account, minor)
        } else {
            Err(DeclineReason::OverLimit)
        };
        let accepted_counter = facts.card.as_ref().map(|_| counter);
        let record =
            AuthorisationRecord { accepted_counter, ..authorisation(*subject, verdict, counter) };
        self.store.record_authorisation(&record, facts).map(|written| format!("{written:?}"))
    }

    fn enrol_card(&mut self, code: u8, card: u8) -> Result<String, StoreError> {
        let code = new_code(code).digest;
        let Some(facts) = self.store.enrolment_facts(&code)? else {
            return Ok("no code".to_owned());
        };
        let EnrolmentSubject::Card(found) = &facts.subject else {
            return Ok("no card's code".to_owned());
        };
        let (used_by, key) = ([card; 32], card_key(card));
        let record = CardEnrolmentRecord { code, used_by, card: found.id, key };
        self.store.record_card_enrolment(&record, &facts).map(|written| format!("{written:?}"))
    }
}

/// Plays the same calls on both stores: they answer alike, and hold the same after each.
fn stores_agree(calls: &[Call]) -> Result<(), TestCaseError> {
    let (mut sqlite, mut memory) = (SqliteStore::open_in_memory().unwrap(), MemoryStore::new());
    let account = furnish(&mut sqlite);
    assert_eq!(furnish(&mut memory), account);
    let mut first = Player { store: &mut sqlite, account, last: None };
    let mut second = Player { store: &mut memory, account, last: None };
    for call in calls {
        prop_assert_eq!(first.play(call), second.play(call), "{:?}", call);
        prop_assert_eq!(&first.last, &second.last);
        prop_assert_eq!(contents_of(&mut first), contents_of(&mut second), "{:?}", call);
    }
    Ok(())
}

/// Amounts of a random history need not fit their transactions, so the check may find faults: both
/// stores have to find the same rules broken.
fn contents_of(player: &mut Player<'_>) -> (Contents, BTreeSet<&'static str>) {
    let mut report = player.store.check_ledger().unwrap();
    let rules = report.faults.drain(..).map(|fault| fault.rule).collect();
    let contents = Contents {
        accounts: player.store.accounts().unwrap(),
        terminals: player.store.terminals().unwrap(),
        cards: player.store.cards().unwrap(),
        transactions: player.store.newest_transactions(None, u32::MAX).unwrap(),
        report,
        entries: player.store.newest_ledger_entries(u32::MAX).unwrap(),
        audit: player.store.newest_audit_entries(None, u32::MAX).unwrap(),
        requests: player.store.requests().unwrap(),
    };
    (contents, rules)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_answer_alike_in_every_history(calls in calls()) {
        stores_agree(&calls)?;
    }
}
