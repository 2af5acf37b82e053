//! Random histories, over each store: against a model of the institution, and store against store.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;

/// One step of a random history. Requests are numbered; some have the same id and other content,
/// some the same counter.
#[derive(Debug, Clone)]
enum Step {
    Authorise(usize),
    Capture(u8),
    Reverse(u8),
    Inquire(u8),
    /// So much of this id, in minor units.
    Refund(u8, u64),
    WriteOff(u8),
}

/// How many transaction ids a history has.
const IDS: u8 = 5;

/// The content of a request.
#[derive(Debug, Clone, Copy)]
struct Plan {
    id: u8,
    minor: u64,
    counter: u64,
}

fn history() -> impl Strategy<Value = (Vec<Plan>, Vec<Step>)> {
    let minors = prop::sample::select(vec![1_u64, 999, 2_000, 4_000, 6_000]);
    let plan =
        (0..IDS, minors, 1..12_u64).prop_map(|(id, minor, counter)| Plan { id, minor, counter });
    (prop::collection::vec(plan, 8), 0..3_u8).prop_flat_map(|(plans, _)| {
        let requests = plans.len();
        let step = prop_oneof![
            3 => (0..requests).prop_map(Step::Authorise),
            1 => (0..IDS).prop_map(Step::Capture),
            1 => (0..IDS).prop_map(Step::Reverse),
            1 => (0..IDS).prop_map(Step::Inquire),
            1 => (0..IDS, prop::sample::select(vec![1_u64, 500, 999]))
                .prop_map(|(id, minor)| Step::Refund(id, minor)),
            1 => (0..IDS).prop_map(Step::WriteOff),
        ];
        (Just(plans), prop::collection::vec(step, 1..40))
    })
}

/// A transaction as the model knows it.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The first request; none for a tombstone.
    first: Option<usize>,
    minor: u64,
    state: TransactionState,
    /// What was given back of what was captured.
    refunded: u64,
    /// Whether the institution has paid the merchant itself.
    is_written_off: bool,
}

impl Known {
    fn new(minor: u64, state: TransactionState) -> Self {
        Self { first: None, minor, state, refunded: 0, is_written_off: false }
    }
}

/// What an answer says: the state and the reason.
type Answer = (TransactionState, Option<DeclineReason>);

/// The institution as a person would explain it, with none of its code.
#[derive(Debug)]
struct Model {
    available: u64,
    counter: u64,
    transactions: BTreeMap<u8, Known>,
}

impl Model {
    fn sum(&self, state: TransactionState) -> u64 {
        self.transactions
            .values()
            .filter(|known| known.state == state)
            .map(|known| known.minor)
            .sum()
    }

    /// What the merchant is owed.
    fn owed(&self) -> u64 {
        let is_paid =
            |known: &&Known| known.state == TransactionState::Captured || known.is_written_off;
        let paid = self.transactions.values().filter(is_paid);
        paid.map(|known| known.minor - known.refunded).sum()
    }

    /// The answer; none for an error. `same` says which requests have the content of this one.
    fn authorise(&mut self, request: usize, plan: Plan, same: &[bool]) -> Option<Answer> {
        if let Some(known) = self.transactions.get(&plan.id) {
            let is_other = known.first.is_some_and(|first| !same[first]);
            return (!is_other).then_some(match known.state {
                TransactionState::Reversed => {
                    (TransactionState::Reversed, Some(DeclineReason::AlreadyReversed))
                }
                TransactionState::Declined(reason) => {
                    (TransactionState::Declined(reason), Some(reason))
                }
                TransactionState::Approved
                | TransactionState::Captured
                | TransactionState::Unknown => (TransactionState::Approved, None),
            });
        }
        let reason = self.reason_to_decline(plan);
        let state = match reason {
            Some(reason) => TransactionState::Declined(reason),
            None => TransactionState::Approved,
        };
        let known = Known { first: Some(request), ..Known::new(plan.minor, state) };
        self.transactions.insert(plan.id, known);
        Some((state, reason))
    }

    /// Uses up the counter and reserves the amount.
    fn reason_to_decline(&mut self, plan: Plan) -> Option<DeclineReason> {
        if plan.counter <= self.counter {
            return Some(DeclineReason::CounterReplayed);
        }
        self.counter = plan.counter;
        if plan.minor > 5_000 {
            return Some(DeclineReason::OverLimit);
        }
        if plan.minor > 2_000 {
            return Some(DeclineReason::VerificationRequired);
        }
        if plan.minor > self.available {
            return Some(DeclineReason::InsufficientFunds);
        }
        self.available -= plan.minor;
        None
    }
}

const OPENING_MINOR: u64 = 4_500;

/// Little money, so that funds run out.
fn pay_from_a_poor_account(bench: &mut Bench) {
    let institution = &mut bench.institution;
    let currency = "EUR".parse().unwrap();
    let balance = Some(Amount::new(OPENING_MINOR, currency).unwrap());
    let account = institution.create_account("Bob", currency, balance, NOW).unwrap();
    let card = CardId::from_octets(&[2; 16]).unwrap();
    let (payment_limit, verification_limit) = (euros("50.00"), Some(euros("20.00")));
    let terms = CardTerms { account, payment_limit, verification_limit };
    institution.add_card(card, terms, &code(7), LATER, NOW).unwrap();
    let proof = card_enrolment_proof(&bench.card_key, &code(7).expose_text());
    let public = bench.card_key.verifying_key().to_sec1();
    institution.enrol_card(&code(7).expose_text(), &public, &proof, NOW).unwrap();
    (bench.account, bench.card) = (account, card);
}

/// One history: an institution, the model beside it, and the first answer to each request.
struct History {
    bench: Bench,
    model: Model,
    plans: Vec<Plan>,
    requests: Vec<AuthorisationRequest>,
    first_answers: BTreeMap<usize, Transaction>,
    /// How many refunds were tried.
    refunds: u8,
}

impl History {
    fn new(mut bench: Bench, plans: &[Plan]) -> Self {
        pay_from_a_poor_account(&mut bench);
        let request = |plan: &Plan| {
            let amount = Amount::new(plan.minor, "EUR".parse().unwrap()).unwrap();
            bench.request(plan.id, amount, plan.counter)
        };
        let requests = plans.iter().map(request).collect();
        let model = Model { available: OPENING_MINOR, counter: 0, transactions: BTreeMap::new() };
        let plans = plans.to_vec();
        Self { bench, model, plans, requests, first_answers: BTreeMap::new(), refunds: 0 }
    }

    fn play(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Authorise(index) => self.authorise(index)?,
            Step::Capture(id) => self.capture(id)?,
            Step::Reverse(id) => self.reverse(id)?,
            Step::Inquire(id) => self.inquire(id)?,
            Step::Refund(id, minor) => self.refund(id, minor)?,
            Step::WriteOff(id) => self.write_off(id)?,
        }
        self.check_books()
    }

    fn authorise(&mut self, index: usize) -> TestCaseResult {
        let request = &self.requests[index];
        let same: Vec<_> = self.requests.iter().map(|other| other == request).collect();
        let expected = self.model.authorise(index, self.plans[index], &same);
        match (self.bench.institution.authorise(request, NOW, RANDOM), expected) {
            (Ok(answer), Some(expected)) => {
                prop_assert_eq!((answer.state, answer.decline_reason()), expected);
                if answer.state != TransactionState::Reversed {
                    let first = self.first_answers.entry(index).or_insert_with(|| answer.clone());
                    prop_assert_eq!(&answer, &*first);
                }
            }
            (Err(InstitutionError::OtherContent(_)), None) => {}
            (answer, expected) => {
                prop_assert!(false, "{:?}, expected {:?}", answer, expected);
            }
        }
        Ok(())
    }

    fn capture(&mut self, id: u8) -> TestCaseResult {
        let known = self.model.transactions.get_mut(&id);
        let answer = self.bench.institution.capture(self.bench.terminal, transaction_id(id), NOW);
        match known {
            None => {
                let is_refused = matches!(answer, Err(InstitutionError::NotFound { .. }));
                prop_assert!(is_refused);
            }
            Some(known)
                if matches!(
                    known.state,
                    TransactionState::Approved | TransactionState::Captured
                ) =>
            {
                known.state = TransactionState::Captured;
                prop_assert_eq!(answer.unwrap().state, TransactionState::Captured);
            }
            Some(_) => {
                let is_refused = matches!(answer, Err(InstitutionError::NotCapturable { .. }));
                prop_assert!(is_refused);
            }
        }
        Ok(())
    }

    fn reverse(&mut self, id: u8) -> TestCaseResult {
        let (terminal, reason) = (self.bench.terminal, ReversalReason::Unanswered);
        let answer = self.bench.institution.reverse(terminal, transaction_id(id), reason, NOW);
        let tombstone = Known::new(0, TransactionState::Reversed);
        let known = self.model.transactions.entry(id).or_insert(tombstone);
        if known.state == TransactionState::Captured {
            let is_refused = matches!(answer, Err(InstitutionError::NotReversible { .. }));
            prop_assert!(is_refused);
            return Ok(());
        }
        if known.state == TransactionState::Approved {
            self.model.available += known.minor;
            known.state = TransactionState::Reversed;
        }
        let expected = (known.state, known.state.decline_reason());
        let answer = answer.unwrap();
        prop_assert_eq!((answer.state, answer.decline_reason()), expected);
        Ok(())
    }

    fn inquire(&mut self, id: u8) -> TestCaseResult {
        let answer =
            self.bench.institution.transaction(self.bench.terminal, transaction_id(id)).unwrap();
        let known = self.model.transactions.get(&id);
        prop_assert_eq!(answer.state, known.map_or(TransactionState::Unknown, |known| known.state));
        Ok(())
    }

    fn order(&mut self, id: u8, operation: Operation) -> Result<OrderOutcome, InstitutionError> {
        let key = TransactionKey { terminal: self.bench.terminal, id: transaction_id(id) };
        let (operator, reason) = ("anna".to_owned(), "why not".to_owned());
        self.bench.institution.operate(&OperatorOrder { operator, key, operation, reason }, NOW)
    }

    /// Each refund has an id of its own.
    fn refund(&mut self, id: u8, minor: u64) -> TestCaseResult {
        self.refunds += 1;
        let amount = Amount::new(minor, "EUR".parse().unwrap()).ok();
        let refund_id = RefundId([self.refunds; 16]);
        let outcome = self.order(id, Operation::Refund { id: refund_id, amount });
        let covered = |known: &&mut Known| {
            known.state == TransactionState::Captured && known.refunded + minor <= known.minor
        };
        let known = self.model.transactions.get_mut(&id).filter(covered);
        prop_assert_eq!(outcome.is_ok(), known.is_some(), "{:?}", outcome);
        if let Some(known) = known {
            known.refunded += minor;
            self.model.available += minor;
        }
        Ok(())
    }

    fn write_off(&mut self, id: u8) -> TestCaseResult {
        let outcome = self.order(id, Operation::WriteOff);
        let known = self.model.transactions.get_mut(&id);
        let is_held = known.as_ref().is_some_and(|known| known.state == TransactionState::Approved);
        let was_done = known.as_ref().is_some_and(|known| known.is_written_off);
        prop_assert_eq!(outcome.is_ok(), is_held || was_done, "{:?}", outcome);
        if let Some(known) = known.filter(|_| is_held) {
            self.model.available += known.minor;
            (known.state, known.is_written_off) = (TransactionState::Reversed, true);
        }
        Ok(())
    }

    fn check_books(&mut self) -> TestCaseResult {
        let report = self.bench.institution.check_ledger().unwrap();
        prop_assert_eq!(&report.faults, &[]);
        let sum: i64 = report.balances.iter().map(|balance| balance.balance_minor).sum();
        prop_assert_eq!(sum, 0);
        prop_assert_eq!(self.bench.available(), self.model.available);
        prop_assert_eq!(self.bench.held(), self.model.sum(TransactionState::Approved));
        prop_assert_eq!(self.bench.payable(), i64::try_from(self.model.owed()).unwrap());
        Ok(())
    }
}

/// The institution answers as the model does, and the books stay right.
fn follows_the_model(bench: Bench, plans: &[Plan], steps: &[Step]) -> TestCaseResult {
    let mut history = History::new(bench, plans);
    steps.iter().try_for_each(|step| history.play(step))
}

/// Both stores lead to the same answers, octet by octet, receipts included.
fn answers_are_alike(plans: &[Plan], steps: &[Step]) -> TestCaseResult {
    let mut first = History::new(Bench::over_sqlite(), plans);
    let mut second = History::new(Bench::over_memory(), plans);
    for step in steps {
        first.play(step)?;
        second.play(step)?;
    }
    prop_assert_eq!(&first.first_answers, &second.first_answers);
    let transactions = |history: &mut History| {
        history.bench.institution.newest_transactions(None, u32::MAX).unwrap()
    };
    prop_assert_eq!(transactions(&mut first), transactions(&mut second));
    let report = |history: &mut History| history.bench.institution.check_ledger().unwrap();
    prop_assert_eq!(report(&mut first), report(&mut second));
    Ok(())
}

fn noise_is_declined(mut bench: Bench, sealed_command: Vec<u8>, number: u8) -> TestCaseResult {
    let request = bench.request(number, euros("2.50"), 1);
    let answer = bench.authorise(&AuthorisationRequest { sealed_command, ..request });
    prop_assert_eq!(answer.decline_reason(), Some(DeclineReason::MalformedCommand));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_history_debits_twice_or_unbalances_the_books_over_sqlite(
        (plans, steps) in history(),
    ) {
        follows_the_model(Bench::over_sqlite(), &plans, &steps)?;
    }

    #[test]
    fn no_history_debits_twice_or_unbalances_the_books_over_memory(
        (plans, steps) in history(),
    ) {
        follows_the_model(Bench::over_memory(), &plans, &steps)?;
    }

    #[test]
    fn every_history_has_the_same_answers_over_both_stores((plans, steps) in history()) {
        answers_are_alike(&plans, &steps)?;
    }

    #[test]
    fn no_octets_are_more_than_declined(sealed_command: Vec<u8>, number: u8) {
        noise_is_declined(Bench::over_sqlite(), sealed_command, number)?;
    }
}
