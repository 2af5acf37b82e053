//! The terminal's engine, driven step by step: no clock, no radio, no disk.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod terminal_identity;

use florin::credential::{CardCommand, SealedCommand, SealingKey, SigningKey};
use florin::domain::{
    CardId, DeclineReason, HolderVerification, Moment, Outcome, ReversalReason, TransactionId,
    UnixTime,
};
use florin::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, Hello, HelloAnswer, Initiator,
    MessageKind, Reassembler, WireError, decode_offer, decode_plain_error, digest_offer,
};
use florin::terminal::{
    AdvertisingPace, DispensePolicy, Input, InstitutionAnswer, InstitutionRequest, Now, Output,
    Payment, PaymentRequest, PaymentState, PaymentView, PhoneId, RecordNumber, Settings, Terminal,
    TillCallId, TillRefusal, TillRequest, TransactionState,
};
use proptest::prelude::*;
use terminal_identity::identity;

/// A terminal whose journal confirms at once, or when told to.
struct Bench {
    terminal: Terminal,
    now: Now,
    /// Every record, in order.
    journal: Vec<Payment>,
    /// Records that are appended and not yet confirmed.
    unconfirmed: Vec<RecordNumber>,
    holds_journal: bool,
    outputs: Vec<Output>,
    next_call: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default(), Vec::new())
    }

    fn with(settings: Settings, open: Vec<Payment>) -> Self {
        let now = Now {
            moment: Moment { milliseconds: 1_000 },
            wall: UnixTime { seconds: 1_700_000_000 },
        };
        let (terminal, outputs) = Terminal::new(identity(), settings, [7; 32], open, now);
        let mut bench = Self {
            terminal,
            now,
            journal: Vec::new(),
            unconfirmed: Vec::new(),
            holds_journal: false,
            outputs: Vec::new(),
            next_call: 0,
        };
        bench.take(outputs);
        bench
    }

    fn input(&mut self, input: Input) {
        let outputs = self.terminal.handle(self.now, input);
        self.take(outputs);
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Append { record, payment } = output {
                self.journal.push(*payment);
                self.unconfirmed.push(record);
            } else {
                self.outputs.push(output);
            }
        }
        if !self.holds_journal {
            self.confirm();
        }
    }

    fn confirm(&mut self) {
        while !self.unconfirmed.is_empty() {
            for record in std::mem::take(&mut self.unconfirmed) {
                let outputs = self.terminal.handle(self.now, Input::Journalled(record));
                for output in outputs {
                    if let Output::Append { record, payment } = output {
                        self.journal.push(*payment);
                        self.unconfirmed.push(record);
                    } else {
                        self.outputs.push(output);
                    }
                }
            }
        }
    }

    fn pass_ms(&mut self, milliseconds: u64) {
        self.now.moment = self.now.moment.plus_ms(milliseconds);
        self.input(Input::Tick);
    }

    fn till(&mut self, request: TillRequest) -> Result<PaymentView, TillRefusal> {
        self.till_with(request, None)
    }

    fn till_with(
        &mut self,
        request: TillRequest,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        self.next_call += 1;
        let call = TillCallId(self.next_call);
        self.input(Input::Till { call, request, stored });
        self.till_answer(call).unwrap()
    }

    fn till_answer(&mut self, wanted: TillCallId) -> Option<Result<PaymentView, TillRefusal>> {
        let at = self.outputs.iter().position(
            |output| matches!(output, Output::AnswerTill { call, .. } if *call == wanted),
        )?;
        match self.outputs.remove(at) {
            Output::AnswerTill { answer, .. } => Some(answer),
            _ => None,
        }
    }

    fn offer(&mut self, capture_after_dispense: bool) -> TransactionId {
        self.till(TillRequest::Create(request(capture_after_dispense))).unwrap().transaction_id
    }

    /// The institution's requests since the last time.
    fn asked(&mut self) -> Vec<InstitutionRequest> {
        let mut asked = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Ask { request, .. } => {
                asked.push(request.clone());
                false
            }
            _ => true,
        });
        asked
    }

    /// What was published since the last time.
    fn published(&mut self) -> Vec<PaymentView> {
        let mut published = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Publish(view) => {
                published.push(view.clone());
                false
            }
            _ => true,
        });
        published
    }

    fn answer(&mut self, transaction_id: TransactionId, state: TransactionState) {
        let answer = InstitutionAnswer::Transaction { state, receipt: Some(vec![1, 2, 3]) };
        self.input(Input::Institution { transaction_id, answer });
    }

    fn state(&self, transaction_id: TransactionId) -> PaymentState {
        self.journal
            .iter()
            .rev()
            .find(|payment| payment.transaction_id == transaction_id)
            .unwrap()
            .state
    }

    fn values_for(&mut self, wanted: PhoneId) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Notify { phone, value } if *phone == wanted => {
                values.push(value.clone());
                false
            }
            _ => true,
        });
        values
    }

    fn is_disconnected(&self, wanted: PhoneId) -> bool {
        self.outputs
            .iter()
            .any(|output| matches!(output, Output::Disconnect { phone, .. } if *phone == wanted))
    }
}

fn request(capture_after_dispense: bool) -> PaymentRequest {
    PaymentRequest {
        amount: "2.50 EUR".parse().unwrap(),
        reference: "slot 7".into(),
        items: Vec::new(),
        capture_after_dispense,
        valid_for_s: Some(60),
        idempotency_key: None,
    }
}

/// A phone written against docs/protocol.md with the codecs only, apart from the wallet's own
/// session.
struct Phone {
    id: PhoneId,
    tag: FragmentTag,
    value_octets_max: usize,
    reassembler: Reassembler,
    channel: Option<Channel>,
    round_trips: u32,
    octets: usize,
}

impl Phone {
    fn new(id: u64, value_octets_max: usize) -> Self {
        Self {
            id: PhoneId(id),
            tag: FragmentTag::from_low_bits(id as u8),
            value_octets_max,
            reassembler: Reassembler::default(),
            channel: None,
            round_trips: 0,
            octets: 0,
        }
    }

    fn write(&mut self, bench: &mut Bench, kind: MessageKind, message: &[u8]) {
        for value in Fragmenter::new(self.tag).cut(kind, message, self.value_octets_max).unwrap() {
            self.octets += value.len() + 3;
            let value_octets_max = self.value_octets_max;
            bench.input(Input::PhoneWrote { phone: self.id, value_octets_max, value });
        }
    }

    fn read(&mut self, bench: &mut Bench) -> Vec<(MessageKind, Vec<u8>)> {
        let values = bench.values_for(self.id);
        values
            .iter()
            .filter_map(|value| {
                assert!(value.len() <= self.value_octets_max);
                assert_eq!(FragmentTag::of_value(value), Some(self.tag));
                self.octets += value.len() + 3;
                self.reassembler.put(value).unwrap()
            })
            .collect()
    }

    fn hello(&mut self, bench: &mut Bench, transaction_id: Option<TransactionId>) -> FromTerminal {
        bench.input(Input::PhoneConnected(self.id));
        let hello = Hello { value_octets_max: Some(self.value_octets_max as u32), transaction_id };
        let (initiator, message) =
            Initiator::start(&hello.encode(), [self.id.0 as u8 + 10; 32]).unwrap();
        self.write(bench, MessageKind::Handshake, &message);
        self.round_trips += 1;
        let messages = self.read(bench);
        assert_eq!(messages.len(), 1);
        let (channel, terminal_key, answer) = initiator.finish(&messages[0].1).unwrap();
        assert_eq!(terminal_key, identity().certificate.channel_key);
        self.channel = Some(channel);
        HelloAnswer::decode(&answer).unwrap().first
    }

    fn say(&mut self, bench: &mut Bench, message: &FromPhone) {
        let sealed = self.channel.as_mut().unwrap().seal(&message.encode()).unwrap();
        self.write(bench, MessageKind::Sealed, &sealed);
    }

    fn hear(&mut self, bench: &mut Bench) -> Vec<FromTerminal> {
        let messages = self.read(bench);
        messages
            .into_iter()
            .map(|(kind, message)| match kind {
                MessageKind::Sealed => {
                    FromTerminal::decode(&self.channel.as_mut().unwrap().open(&message).unwrap())
                        .unwrap()
                }
                MessageKind::PlainError => {
                    FromTerminal::Error(decode_plain_error(&message).unwrap())
                }
                MessageKind::Handshake => panic!("an answer to no hello"),
            })
            .collect()
    }

    fn command(&self, offer: &[u8]) -> FromPhone {
        let offer_digest = digest_offer(offer);
        let command = CardCommand {
            card_id: CardId::from_octets(&[1; 16]).unwrap(),
            offer_digest,
            counter: self.id.0,
            holder_verification: HolderVerification::Consent,
        };
        let signed = command.sign(&SigningKey::from_scalar(&[8; 32]).unwrap());
        let sealing_key = SealingKey::from_octets([9; 32]).public_key();
        let sealed =
            sealing_key.seal(&signed.encode(), &offer_digest, [self.id.0 as u8; 32]).unwrap();
        let transaction_id = decode_offer(offer).unwrap().transaction_id;
        FromPhone::PaymentCommand { transaction_id, sealed_command: sealed.encode() }
    }

    fn pay(&mut self, bench: &mut Bench) -> FromPhone {
        let FromTerminal::Offer(offer) = self.hello(bench, None) else { panic!("no offer") };
        let command = self.command(&offer);
        self.say(bench, &command);
        self.round_trips += 1;
        command
    }
}

fn outcomes(messages: &[FromTerminal]) -> Vec<Outcome> {
    messages
        .iter()
        .filter_map(|message| match message {
            FromTerminal::Result { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect()
}

fn errors(messages: &[FromTerminal]) -> Vec<WireError> {
    messages
        .iter()
        .filter_map(|message| match message {
            FromTerminal::Error(error) => Some(error.wire),
            _ => None,
        })
        .collect()
}

#[test]
fn a_payment_takes_two_round_trips_and_under_one_and_a_half_kibibytes_at_every_mtu() {
    for value_octets_max in [20, 100, 182, 244, 512] {
        let mut bench = Bench::new();
        let transaction_id = bench.offer(false);
        let mut phone = Phone::new(1, value_octets_max);
        phone.pay(&mut bench);
        assert!(matches!(bench.asked()[..], [InstitutionRequest::Authorise { .. }]));
        // A receipt of the size of a real one.
        let answer = InstitutionAnswer::Transaction {
            state: TransactionState::Approved,
            receipt: Some(vec![7; 190]),
        };
        bench.input(Input::Institution { transaction_id, answer });
        assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Approved]);
        phone.say(&mut bench, &FromPhone::ReceiptAck { transaction_id });
        assert_eq!(phone.round_trips, 2);
        assert!(phone.octets < 1536, "{} octets at values of {value_octets_max}", phone.octets);
    }
}

#[test]
fn nothing_happens_outside_before_the_journal_has_it() {
    let mut bench = Bench::new();
    bench.holds_journal = true;
    bench.next_call += 1;
    let call = TillCallId(bench.next_call);
    let create = TillRequest::Create(request(false));
    bench.input(Input::Till { call, request: create, stored: None });
    assert_eq!(bench.till_answer(call), None, "the till is answered after the record");
    let mut phone = Phone::new(1, 512);
    assert_eq!(
        phone.hello(&mut bench, None),
        FromTerminal::NothingToPay,
        "the offer is not durable yet"
    );
    bench.confirm();
    let transaction_id = bench.till_answer(call).unwrap().unwrap().transaction_id;
    let heard = phone.hear(&mut bench);
    let [FromTerminal::Offer(offer)] = &heard[..] else { panic!("{heard:?}") };

    let command = phone.command(offer);
    phone.say(&mut bench, &command);
    assert_eq!(bench.asked(), [], "the institution is asked after the record");
    bench.confirm();
    assert_eq!(bench.asked().len(), 1);

    bench.outputs.clear();
    bench.answer(transaction_id, TransactionState::Approved);
    bench.input(Input::Tick);
    assert!(phone.hear(&mut bench).is_empty(), "the phone is told after the record");
    assert_eq!(bench.asked(), [], "the capture is sent after the record");
    let releases = |bench: &Bench| {
        bench.outputs.iter().any(|output| matches!(output, Output::Publish(view) if view.release))
    };
    assert!(!releases(&bench), "the till is told to release after the record");
    bench.confirm();
    assert!(releases(&bench));
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Approved]);
    assert!(matches!(bench.asked()[..], [InstitutionRequest::Capture { .. }]));
}

#[test]
fn a_record_that_is_confirmed_does_not_let_out_what_a_later_one_decided() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    bench.holds_journal = true;
    phone.pay(&mut bench);
    // The institution is asked only after the record, so confirm it; then hold back the next.
    let authorising = bench.unconfirmed.remove(0);
    bench.outputs.clear();
    let outputs = bench.terminal.handle(bench.now, Input::Journalled(authorising));
    bench.take(outputs);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.input(Input::Journalled(authorising));
    assert!(
        !bench.outputs.iter().any(|output| matches!(output, Output::Publish(view) if view.release))
    );
    assert!(phone.hear(&mut bench).is_empty());
}

#[test]
fn a_refusal_says_nothing_of_a_payment_that_the_journal_does_not_have() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    Phone::new(1, 512).pay(&mut bench);
    bench.holds_journal = true;
    bench.answer(transaction_id, TransactionState::Approved);
    // Were it told "it is paid" and the power cut now, the restart would reverse what is paid.
    bench.next_call += 1;
    let call = TillCallId(bench.next_call);
    bench.input(Input::Till {
        call,
        request: TillRequest::Cancel { transaction_id },
        stored: None,
    });
    assert_eq!(bench.till_answer(call), None);
    bench.confirm();
    let refused = bench.till_answer(call).unwrap();
    assert!(
        matches!(refused, Err(TillRefusal::WrongState { state: "capturing", .. })),
        "{refused:?}"
    );
}

#[test]
fn a_capture_after_the_dispense_waits_for_the_tills_word() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(true);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    bench.asked();
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert!(view.release);
    assert_eq!(bench.asked(), [InstitutionRequest::Capture { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Captured);
    assert_eq!(bench.state(transaction_id), PaymentState::Captured);
    assert_eq!(bench.terminal.open_count(), 0);
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Approved]);
}

/// A payment that is approved and waits for the till's word.
fn approved(bench: &mut Bench) -> TransactionId {
    let transaction_id = bench.offer(true);
    Phone::new(1, 512).pay(bench);
    bench.asked();
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    transaction_id
}

#[test]
fn what_the_till_never_says_is_given_back_in_its_time() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    bench.pass_ms(1);
    let reason = ReversalReason::DispenseUnknown;
    assert_eq!(bench.asked(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    assert!(!bench.terminal.view(transaction_id).unwrap().release);
    let late = bench.till(TillRequest::Complete { transaction_id, dispensed: true });
    assert!(matches!(late, Err(TillRefusal::WrongState { state: "reversing", .. })), "{late:?}");
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(bench.journal.last().unwrap().state, PaymentState::Reversed(reason));
}

#[test]
fn the_tills_time_begins_when_it_is_told_however_slow_the_journal_is() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(true);
    Phone::new(1, 512).pay(&mut bench);
    bench.asked();
    bench.holds_journal = true;
    bench.answer(transaction_id, TransactionState::Approved);
    bench.pass_ms(2 * Settings::default().dispense_timeout_ms);
    assert!(bench.published().iter().all(|view| !view.release));
    bench.holds_journal = false;
    bench.confirm();
    assert!(bench.published().last().unwrap().release);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    bench.pass_ms(1);
    assert_eq!(
        bench.state(transaction_id),
        PaymentState::Reversing(ReversalReason::DispenseUnknown)
    );
}

#[test]
fn what_the_till_never_says_is_held_where_the_operator_wants_it_so() {
    let settings = Settings { dispense_policy: DispensePolicy::Hold, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    let transaction_id = approved(&mut bench);
    assert!(!bench.terminal.view(transaction_id).unwrap().dispense_unknown);
    bench.published();
    bench.pass_ms(Settings::default().dispense_timeout_ms);
    let told = bench.published();
    assert!(told.last().unwrap().dispense_unknown && told.last().unwrap().release, "{told:?}");
    bench.pass_ms(100 * Settings::default().dispense_timeout_ms);
    assert_eq!((bench.state(transaction_id), bench.asked().len()), (PaymentState::Approved, 0));
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: false }).unwrap();
    assert!(!view.dispense_unknown);
    assert_eq!(bench.asked().len(), 1);
}

#[test]
fn after_a_restart_the_till_is_asked_again_and_has_its_full_time() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    let mut bench = Bench::with(Settings::default(), vec![bench.journal.last().unwrap().clone()]);
    assert!(bench.published().last().unwrap().dispense_unknown);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert!(view.release && !view.dispense_unknown);
    assert_eq!(bench.asked(), [InstitutionRequest::Capture { transaction_id }]);
}

#[test]
fn payments_that_are_open_too_long_are_named_and_never_dropped() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    let age = |bench: &Bench, seconds| {
        bench.terminal.open_payments(UnixTime { seconds: bench.now.wall.seconds + seconds })
    };
    let escalate_after_s = Settings::default().escalate_after_s;
    let young = age(&bench, escalate_after_s - 1);
    assert_eq!(
        (young.oldest_s, young.escalated.len(), young.by_state["capturing"]),
        (escalate_after_s - 1, 0, 1)
    );
    assert_eq!(age(&bench, escalate_after_s).escalated, [transaction_id]);
    // A clock that was set back by years makes it young, and breaks nothing.
    assert_eq!(bench.terminal.open_payments(UnixTime { seconds: 0 }).oldest_s, 0);
    bench.asked();
    // The first passes as unanswered; then it is asked again.
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(
        bench.asked(),
        [InstitutionRequest::Capture { transaction_id }],
        "it goes on trying"
    );
}

#[test]
fn goods_that_cannot_be_released_are_given_back_and_the_phone_hears_of_it() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(true);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    bench.asked();
    bench.answer(transaction_id, TransactionState::Approved);
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: false }).unwrap();
    assert!(!view.release, "what is being given back must not be handed out");
    let reason = ReversalReason::DispenseFailed;
    assert_eq!(bench.asked(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    assert_eq!(
        outcomes(&phone.hear(&mut bench)),
        [Outcome::Approved],
        "not given back before the answer"
    );
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Reversed]);
    let refused = bench.till(TillRequest::Complete { transaction_id, dispensed: true });
    assert_eq!(refused, Err(TillRefusal::Unknown(transaction_id)));
    let stored = bench.journal.last().cloned();
    let refused =
        bench.till_with(TillRequest::Complete { transaction_id, dispensed: true }, stored.clone());
    assert!(matches!(refused, Err(TillRefusal::WrongState { state: "reversed", .. })));
    let repeated =
        bench.till_with(TillRequest::Complete { transaction_id, dispensed: false }, stored);
    assert_eq!(repeated.unwrap().state, PaymentState::Reversed(reason));
}

#[test]
fn a_decline_ends_it_for_phone_and_till() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    bench.asked();
    bench.answer(transaction_id, TransactionState::Declined(DeclineReason::InsufficientFunds));
    assert_eq!(
        outcomes(&phone.hear(&mut bench)),
        [Outcome::Declined(DeclineReason::InsufficientFunds)]
    );
    assert!(
        bench.outputs.iter().all(|output| !matches!(output, Output::Publish(view) if view.release))
    );
    assert_eq!(bench.asked(), []);
}

#[test]
fn no_answer_is_pending_then_asked_for_and_reversed_until_it_is_acknowledged() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    bench.asked();
    let unanswered = || InstitutionAnswer::Unanswered { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: unanswered() });
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Pending]);
    assert_eq!(bench.asked(), [InstitutionRequest::Inquire { transaction_id }]);
    for _ in 0..40 {
        bench.input(Input::Institution { transaction_id, answer: unanswered() });
        assert_eq!(bench.asked(), [], "not at once again");
        bench.pass_ms(Settings::default().retry_backoff_max_ms);
        assert_eq!(bench.asked(), [InstitutionRequest::Inquire { transaction_id }]);
    }
    bench.answer(transaction_id, TransactionState::Approved);
    let reason = ReversalReason::Unanswered;
    assert_eq!(bench.asked(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    bench.input(Input::Institution { transaction_id, answer: unanswered() });
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.asked(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(bench.state(transaction_id), PaymentState::Reversed(reason));
    assert!(
        bench.outputs.iter().all(|output| !matches!(output, Output::Publish(view) if view.release))
    );
    assert_eq!(bench.terminal.open_count(), 0);
}

#[test]
fn a_refused_authorisation_is_not_called_uncharged_before_the_institution_says_so() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    bench.asked();
    let refused = || InstitutionAnswer::Refused { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: refused() });
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Pending], "a copy may be on its way");
    assert_eq!(bench.asked(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.input(Input::Institution { transaction_id, answer: refused() });
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.asked(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Unknown);
    let reason = ReversalReason::Unanswered;
    assert_eq!(
        bench.asked(),
        [InstitutionRequest::Reverse { transaction_id, reason }],
        "a tombstone"
    );
}

#[test]
fn a_relay_that_never_reports_counts_as_unanswered() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    Phone::new(1, 512).pay(&mut bench);
    bench.pass_ms(Settings::default().authorisation_timeout_ms + 5_000);
    assert_eq!(bench.state(transaction_id), PaymentState::Unresolved);
}

#[test]
fn an_institution_that_was_never_reached_charged_nobody() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    let mut attempts = 0;
    while !bench.state(transaction_id).is_final() {
        attempts += bench.asked().len();
        let answer = InstitutionAnswer::NotSent { detail: String::new() };
        bench.input(Input::Institution { transaction_id, answer });
        bench.pass_ms(500);
        assert!(attempts < 100);
    }
    assert!(attempts > 10, "{attempts}");
    assert_eq!(
        bench.state(transaction_id),
        PaymentState::NotCharged(WireError::InstitutionUnreachable)
    );
    assert_eq!(errors(&phone.hear(&mut bench)), [WireError::InstitutionUnreachable]);
    assert_eq!(bench.asked(), []);
}

#[test]
fn a_sign_of_life_comes_at_least_every_two_seconds() {
    let mut bench = Bench::new();
    bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    for _ in 0..4 {
        bench.pass_ms(2_000);
        assert_eq!(phone.hear(&mut bench), [FromTerminal::Working]);
    }
}

#[test]
fn the_first_command_wins_and_the_others_are_told() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let (mut winner, mut loser, mut late) =
        (Phone::new(1, 512), Phone::new(2, 512), Phone::new(3, 512));
    let FromTerminal::Offer(offer) = loser.hello(&mut bench, None) else { panic!("no offer") };
    winner.pay(&mut bench);
    assert_eq!(loser.hear(&mut bench), [FromTerminal::Taken(transaction_id)]);
    let command = loser.command(&offer);
    loser.say(&mut bench, &command);
    assert_eq!(loser.hear(&mut bench), [FromTerminal::Taken(transaction_id)]);
    assert_eq!(late.hello(&mut bench, Some(transaction_id)), FromTerminal::Taken(transaction_id));
    assert_eq!(bench.asked().len(), 1);
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(outcomes(&winner.hear(&mut bench)), [Outcome::Approved]);
    assert!(loser.hear(&mut bench).is_empty());
    assert!(late.hear(&mut bench).is_empty());
}

#[test]
fn a_phone_that_comes_back_gets_its_result_and_no_other_phone_does() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    let command = phone.pay(&mut bench);
    bench.input(Input::PhoneDisconnected(phone.id));
    bench.answer(transaction_id, TransactionState::Approved);
    let FromPhone::PaymentCommand { sealed_command, .. } = &command else { panic!("no command") };
    let command_digest = SealedCommand::digest_of_encoded(sealed_command);

    let mut again = Phone::new(2, 512);
    again.hello(&mut bench, None);
    again.say(&mut bench, &FromPhone::ResultQuery { transaction_id, command_digest });
    assert_eq!(outcomes(&again.hear(&mut bench)), [Outcome::Approved]);
    again.say(&mut bench, &command);
    assert_eq!(
        outcomes(&again.hear(&mut bench)),
        [Outcome::Approved],
        "the same octets have the same effect"
    );

    let mut stranger = Phone::new(3, 512);
    stranger.hello(&mut bench, None);
    stranger.say(&mut bench, &FromPhone::ResultQuery { transaction_id, command_digest: [0; 32] });
    assert_eq!(errors(&stranger.hear(&mut bench)), [WireError::TransactionUnknown]);

    // When it is final it is no longer in memory: the journal is asked.
    bench.answer(transaction_id, TransactionState::Captured);
    again.say(&mut bench, &FromPhone::ResultQuery { transaction_id, command_digest });
    let question = bench
        .outputs
        .iter()
        .find_map(|output| match output {
            Output::Load { question, .. } => Some(question.clone()),
            _ => None,
        })
        .unwrap();
    let payment = bench.journal.last().cloned();
    bench.input(Input::Loaded { phone: again.id, question, payment });
    assert_eq!(outcomes(&again.hear(&mut bench)), [Outcome::Approved]);
}

#[test]
fn offers_are_withdrawn_expire_and_follow() {
    let mut bench = Bench::new();
    let mut phone = Phone::new(1, 512);
    assert_eq!(phone.hello(&mut bench, None), FromTerminal::NothingToPay);
    let first = bench.offer(false);
    assert!(matches!(phone.hear(&mut bench)[..], [FromTerminal::Offer(_)]));
    assert!(bench.outputs.contains(&Output::Advertise(AdvertisingPace::Fast)));
    let waiting = bench.till(TillRequest::Create(request(true)));
    assert_eq!(waiting, Err(TillRefusal::OfferWaiting(first)));
    bench.till(TillRequest::Cancel { transaction_id: first }).unwrap();
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Withdrawn(first)]);
    assert_eq!(bench.state(first), PaymentState::Cancelled);

    let second = bench.offer(false);
    let heard = phone.hear(&mut bench);
    let [FromTerminal::Offer(offer)] = &heard[..] else { panic!("{heard:?}") };
    bench.pass_ms(60_000);
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Expired(second)]);
    let command = phone.command(offer);
    phone.say(&mut bench, &command);
    assert_eq!(bench.asked(), []);
    let payment = bench.journal.last().cloned();
    let Some(Output::Load { phone: asker, question }) =
        bench.outputs.iter().find(|output| matches!(output, Output::Load { .. })).cloned()
    else {
        panic!("the journal is asked")
    };
    bench.input(Input::Loaded { phone: asker, question, payment });
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Expired(second)]);
}

#[test]
fn the_advertisement_is_not_changed_while_a_phone_pays() {
    let mut bench = Bench::new();
    let paces = |bench: &Bench| {
        let is_pace = |output: &&Output| matches!(output, Output::Advertise(_));
        bench.outputs.iter().filter(is_pace).cloned().collect::<Vec<_>>()
    };
    let fast = Output::Advertise(AdvertisingPace::Fast);
    let slow = Output::Advertise(AdvertisingPace::Slow);
    let transaction_id = bench.offer(false);
    assert_eq!(paces(&bench), [slow.clone(), fast.clone()]);
    let mut phone = Phone::new(1, 512);
    let FromTerminal::Offer(offer) = phone.hello(&mut bench, None) else { panic!() };
    let command = phone.command(&offer);
    phone.say(&mut bench, &command);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.answer(transaction_id, TransactionState::Captured);
    assert_eq!(bench.state(transaction_id), PaymentState::Captured);
    assert_eq!(paces(&bench), [slow.clone(), fast.clone()]);
    bench.input(Input::PhoneDisconnected(phone.id));
    assert_eq!(paces(&bench), [slow.clone(), fast, slow]);
}

#[test]
fn a_person_who_says_no_is_not_asked_again_and_others_may_pay() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    phone.say(&mut bench, &FromPhone::Cancel { transaction_id });
    assert_eq!(phone.hear(&mut bench), [FromTerminal::NothingToPay]);
    Phone::new(2, 512).pay(&mut bench);
    assert!(phone.hear(&mut bench).is_empty());
    assert_eq!(bench.state(transaction_id), PaymentState::Authorising);
}

#[test]
fn the_same_key_is_the_same_payment_and_other_content_is_refused() {
    let mut bench = Bench::new();
    let keyed = |amount: &str| {
        let amount = amount.parse().unwrap();
        let idempotency_key = Some("order-1".to_owned());
        TillRequest::Create(PaymentRequest { amount, idempotency_key, ..request(false) })
    };
    let first = bench.till(keyed("2.50 EUR")).unwrap();
    assert_eq!(bench.till(keyed("2.50 EUR")).unwrap().transaction_id, first.transaction_id);
    assert_eq!(bench.till(keyed("2.51 EUR")), Err(TillRefusal::KeyReused(first.transaction_id)));
    bench.till(TillRequest::Cancel { transaction_id: first.transaction_id }).unwrap();
    let stored = bench.journal.last().cloned();
    assert_eq!(
        bench.till_with(keyed("2.50 EUR"), stored.clone()).unwrap().state,
        PaymentState::Cancelled,
        "a finished payment is not made again"
    );
    assert_eq!(
        bench.till_with(keyed("2.51 EUR"), stored),
        Err(TillRefusal::KeyReused(first.transaction_id))
    );
    assert_eq!(bench.journal.len(), 2);
}

#[test]
fn a_restart_continues_every_open_payment() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(true);
    let offered = bench.journal.last().cloned().unwrap();
    Phone::new(1, 512).pay(&mut bench);
    let authorising = bench.journal.last().cloned().unwrap();
    bench.answer(transaction_id, TransactionState::Approved);
    let approved = bench.journal.last().cloned().unwrap();

    let bench = Bench::with(Settings::default(), vec![offered]);
    assert_eq!(bench.state(transaction_id), PaymentState::Expired);

    let mut bench = Bench::with(Settings::default(), vec![authorising]);
    assert_eq!(bench.state(transaction_id), PaymentState::Unresolved, "a request may have left");
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    assert_eq!(bench.asked(), [InstitutionRequest::Inquire { transaction_id }]);

    let mut bench = Bench::with(Settings::default(), vec![approved.clone()]);
    assert_eq!(bench.asked(), [], "the till's word is awaited");
    assert!(bench.terminal.view(transaction_id).unwrap().release);
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert_eq!(bench.asked(), [InstitutionRequest::Capture { transaction_id }]);

    let capturing = Payment { state: PaymentState::Capturing, ..approved };
    let mut bench = Bench::with(Settings::default(), vec![capturing]);
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    assert_eq!(bench.asked(), [InstitutionRequest::Capture { transaction_id }]);
}

/// So many payments in this state.
fn queue(length: u16, state: PaymentState) -> Vec<Payment> {
    let mut bench = Bench::new();
    bench.offer(true);
    let template = bench.journal.pop().unwrap();
    (0..length)
        .map(|number| {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&number.to_be_bytes());
            Payment {
                transaction_id: TransactionId::from_random(octets),
                state,
                ..template.clone()
            }
        })
        .collect()
}

#[test]
fn terminals_that_get_their_power_back_at_once_do_not_ask_in_step() {
    let settings = Settings { background_requests_max: 100, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), queue(100, PaymentState::Capturing));
    let mut asked = [0; 2];
    for half in &mut asked {
        bench.pass_ms(settings.retry_backoff_min_ms / 2);
        *half = bench.asked().len();
    }
    assert_eq!(asked[0] + asked[1], 100, "all within the first wait");
    assert!(asked.iter().all(|half| *half > 25), "spread over all of it: {asked:?}");
}

#[test]
fn with_a_silent_institution_all_of_a_long_queue_get_their_turn() {
    let settings = Settings::default();
    let length = 1_000;
    let mut bench = Bench::with(
        settings.clone(),
        queue(length, PaymentState::Reversing(ReversalReason::Cancelled)),
    );
    // For how long each request takes a place: nobody ever answers.
    let place_ms = settings.request_timeout_ms + 2_000;
    let mut under_way: Vec<Moment> = Vec::new();
    let mut order = Vec::new();
    while order.len() < 2 * usize::from(length) {
        let now = bench.now.moment;
        under_way.retain(|until| *until > now);
        for request in bench.asked() {
            under_way.push(now.plus_ms(place_ms));
            order.push(request.transaction_id());
        }
        assert!(under_way.len() <= settings.background_requests_max, "{} at once", under_way.len());
        let deadline = bench.terminal.next_deadline().unwrap();
        assert!(deadline > now, "it wants to be woken for nothing");
        bench.now.moment = deadline;
        bench.input(Input::Tick);
    }
    for (number, round) in order.chunks_exact(length.into()).enumerate() {
        let asked: std::collections::BTreeSet<_> = round.iter().collect();
        assert_eq!(
            asked.len(),
            usize::from(length),
            "round {number}: some twice before others once"
        );
    }
    let full = settings.background_requests_max as u64
        * bench.now.moment.since_ms(Moment { milliseconds: 1_000 })
        / place_ms;
    assert!(order.len() as u64 + 8 > full, "places stay empty: {} of {full}", order.len());
}

#[test]
fn a_long_queue_of_open_payments_asks_a_few_at_a_time_and_all_in_the_end() {
    let mut bench = Bench::with(Settings::default(), queue(50, PaymentState::Capturing));
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    let mut captured = 0;
    loop {
        let asked = bench.asked();
        assert!(asked.len() <= Settings::default().background_requests_max);
        if asked.is_empty() {
            break;
        }
        for request in asked {
            bench.answer(request.transaction_id(), TransactionState::Captured);
            captured += 1;
        }
    }
    assert_eq!(captured, 50);
    assert_eq!(bench.terminal.open_count(), 0);
}

#[test]
fn a_phones_mistakes_are_named_and_cost_nobody_else_anything() {
    let mut bench = Bench::new();
    bench.offer(false);
    let mut honest = Phone::new(2, 512);
    honest.hello(&mut bench, None);
    let mut phone = Phone::new(1, 512);
    let wrote =
        |value: Vec<u8>| Input::PhoneWrote { phone: PhoneId(1), value_octets_max: 512, value };
    for (value, expected) in [
        (vec![], WireError::MalformedFragment),
        (vec![0x01], WireError::MalformedFragment),
        (vec![0xf1, 0], WireError::MalformedFragment),
        (vec![0x81, 0xff, 0xff, 0], WireError::MessageTooLong),
        (vec![0xc1], WireError::HandshakeFailed),
        (vec![0xc1, 9, 1, 2], WireError::VersionUnsupported),
        (vec![0xd1, 1, 2, 3], WireError::UnexpectedMessage),
    ] {
        bench.input(wrote(value.clone()));
        let values = bench.values_for(phone.id);
        let (kind, message) = Reassembler::default().put(&values[0]).unwrap().unwrap();
        assert_eq!(kind, MessageKind::PlainError);
        assert_eq!(decode_plain_error(&message).unwrap().wire, expected, "{value:?}");
    }
    bench.input(wrote(vec![0xe1]));
    assert!(bench.is_disconnected(phone.id), "after eight mistakes");
    phone.id = PhoneId(3);
    phone.tag = FragmentTag::from_low_bits(3);
    phone.pay(&mut bench);
    assert_eq!(bench.asked().len(), 1);
    assert_eq!(honest.hear(&mut bench).len(), 1);
}

#[test]
fn phones_that_say_nothing_are_disconnected_and_too_many_are_told() {
    let settings = Settings { phones_max: 2, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    for phone in 1..=3 {
        bench.input(Input::PhoneConnected(PhoneId(phone)));
    }
    assert!(bench.is_disconnected(PhoneId(3)));
    assert_eq!(bench.terminal.phone_count(), 2);
    bench.pass_ms(settings.hello_timeout_ms);
    assert!(bench.is_disconnected(PhoneId(1)) && bench.is_disconnected(PhoneId(2)));
    assert_eq!(bench.terminal.phone_count(), 0);
}

#[test]
fn a_newcomer_takes_the_place_of_whoever_held_one_longest_without_paying() {
    let settings = Settings { phones_max: 3, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    bench.offer(false);
    let (mut payer, mut idle, mut reader) =
        (Phone::new(1, 512), Phone::new(2, 512), Phone::new(3, 512));
    payer.hello(&mut bench, None);
    bench.pass_ms(1_000);
    idle.hello(&mut bench, None);
    bench.pass_ms(1_000);
    let FromTerminal::Offer(offer) = reader.hello(&mut bench, None) else { panic!("no offer") };
    let command = payer.command(&offer);
    bench.pass_ms(settings.stay_min_ms - 2_000);
    payer.say(&mut bench, &command);
    idle.hear(&mut bench);
    reader.hear(&mut bench);

    // The second came a second ago as far as its stay counts; the first has, but pays.
    bench.input(Input::PhoneConnected(PhoneId(4)));
    assert!(bench.is_disconnected(PhoneId(4)), "nobody may be sent away yet");
    bench.input(Input::PhoneDisconnected(PhoneId(4)));
    bench.pass_ms(1_000);
    bench.input(Input::PhoneConnected(PhoneId(5)));
    assert!(bench.is_disconnected(idle.id));
    assert_eq!(errors(&idle.hear(&mut bench)), [WireError::Busy]);
    assert!(!bench.is_disconnected(payer.id) && !bench.is_disconnected(reader.id));
    bench.pass_ms(1_000);
    bench.input(Input::PhoneConnected(PhoneId(6)));
    assert!(bench.is_disconnected(reader.id));
    assert!(!bench.is_disconnected(payer.id), "never the payer");
    assert_eq!(bench.terminal.phone_count(), 3);
}

#[test]
fn who_has_paid_keeps_its_place_a_while_longer_and_not_for_ever() {
    let settings = Settings { phones_max: 1, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    let transaction_id = bench.offer(true);
    let mut payer = Phone::new(1, 512);
    let FromTerminal::Offer(offer) = payer.hello(&mut bench, None) else { panic!("no offer") };
    bench.pass_ms(settings.stay_min_ms + 5_000);
    let command = payer.command(&offer);
    payer.say(&mut bench, &command);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.pass_ms(settings.stay_min_ms - 1);
    bench.input(Input::PhoneConnected(PhoneId(2)));
    assert!(bench.is_disconnected(PhoneId(2)));
    bench.pass_ms(1);
    bench.input(Input::PhoneConnected(PhoneId(3)));
    assert!(bench.is_disconnected(payer.id), "the till may take hours to its word");
}

#[test]
fn what_is_still_under_way_from_a_phone_that_has_to_leave_is_not_heard() {
    let settings = Settings { phones_max: 1, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    bench.offer(false);
    let mut loser = Phone::new(1, 512);
    let FromTerminal::Offer(offer) = loser.hello(&mut bench, None) else { panic!("no offer") };
    bench.pass_ms(60_000 - 1);
    bench.input(Input::PhoneConnected(PhoneId(2)));
    assert!(bench.is_disconnected(loser.id));
    let command = loser.command(&offer);
    loser.say(&mut bench, &command);
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.terminal.phone_count(), 1, "it is no newcomer either");
    assert!(!bench.is_disconnected(PhoneId(2)));
}

#[test]
fn a_message_that_does_not_end_ends_the_connection() {
    let settings = Settings::default();
    let mut bench = Bench::new();
    bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    let wrote =
        |value: Vec<u8>| Input::PhoneWrote { phone: PhoneId(1), value_octets_max: 512, value };
    bench.input(wrote(vec![0x91, 0x10, 0x00, 7]));
    let mut number = 0u8;
    for _ in 0..29 {
        bench.pass_ms(1_000);
        number = number.wrapping_add(1);
        bench.input(wrote(vec![(number & 3) << 4 | 1, 7]));
    }
    assert!(!bench.is_disconnected(phone.id));
    assert_eq!(
        bench.terminal.next_deadline(),
        Some(Moment { milliseconds: 1_000 + settings.message_timeout_ms })
    );
    bench.pass_ms(1_000);
    assert!(bench.is_disconnected(phone.id));
    assert_eq!(errors(&phone.hear(&mut bench)), [WireError::TooSlow]);
}

#[test]
fn only_messages_that_open_count_as_a_sign_of_life() {
    let settings = Settings { faults_max: u32::MAX, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    let transaction_id = bench.offer(false);
    let mut alive = Phone::new(1, 512);
    alive.hello(&mut bench, None);
    let mut noisy = Phone::new(2, 512);
    noisy.hello(&mut bench, None);
    for _ in 0..2 {
        bench.pass_ms(settings.silence_timeout_ms / 2);
        alive.say(&mut bench, &FromPhone::ReceiptAck { transaction_id });
        bench.input(Input::PhoneWrote {
            phone: noisy.id,
            value_octets_max: 512,
            value: vec![0xd2, 1, 2, 3],
        });
    }
    assert!(!bench.is_disconnected(alive.id));
    assert!(bench.is_disconnected(noisy.id));
}

#[test]
fn a_flood_of_values_or_messages_ends_the_connection_and_nothing_else() {
    let settings = Settings { faults_max: u32::MAX, hellos_max: u32::MAX, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    let transaction_id = bench.offer(false);
    let mut honest = Phone::new(9, 512);
    honest.hello(&mut bench, None);

    let wrote =
        |value: Vec<u8>| Input::PhoneWrote { phone: PhoneId(1), value_octets_max: 512, value };
    for _ in 0..settings.values_burst_max {
        bench.input(wrote(vec![0x01]));
    }
    assert!(!bench.is_disconnected(PhoneId(1)));
    bench.input(wrote(vec![0x01]));
    assert!(bench.is_disconnected(PhoneId(1)));

    let mut talker = Phone::new(2, 512);
    talker.hello(&mut bench, None);
    let question = FromPhone::ResultQuery { transaction_id, command_digest: [0; 32] };
    for _ in 1..settings.messages_burst_max {
        talker.say(&mut bench, &question);
    }
    assert!(!bench.is_disconnected(talker.id));
    talker.hear(&mut bench);
    talker.say(&mut bench, &question);
    assert!(bench.is_disconnected(talker.id));
    assert_eq!(errors(&talker.hear(&mut bench)), [WireError::TooManyAttempts]);

    // At the pace of one who pays, nobody is too fast.
    let mut patient = Phone::new(3, 512);
    patient.hello(&mut bench, None);
    for _ in 0..4 * settings.messages_burst_max {
        bench.pass_ms(1_000 / u64::from(settings.messages_per_s) + 1);
        patient.say(&mut bench, &question);
    }
    assert!(!bench.is_disconnected(patient.id));
    assert!(honest.hear(&mut bench).is_empty());
    assert!(!bench.is_disconnected(honest.id));
}

#[test]
fn the_till_sees_no_matching_code_of_a_channel_that_is_gone() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let codes = |bench: &mut Bench| {
        let published = bench.outputs.iter().rev().find_map(|output| match output {
            Output::Publish(view) => Some(view.matching_codes.clone()),
            _ => None,
        });
        let current = bench.terminal.view(transaction_id).unwrap().matching_codes;
        assert_eq!(published.as_ref(), Some(&current), "the till has what there is");
        current
    };
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    let first = codes(&mut bench);
    assert_eq!(first.len(), 1);
    phone.hello(&mut bench, None);
    let second = codes(&mut bench);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second, "another channel has another code");
    let wrote =
        |value: Vec<u8>| Input::PhoneWrote { phone: PhoneId(1), value_octets_max: 512, value };
    // What does not open, a hello that is none, and fragments out of order.
    for value in [vec![0xd1, 1, 2, 3], vec![0xc1, 1, 2, 3], vec![0x01, 1]] {
        bench.input(wrote(value.clone()));
        assert!(codes(&mut bench).is_empty(), "after {value:?}");
        phone.hear(&mut bench);
        phone.hello(&mut bench, None);
        assert_eq!(codes(&mut bench).len(), 1);
    }
    // A hello for another offer: the channel stands and shows nothing.
    phone.hello(&mut bench, Some(TransactionId::from_random([9; 16])));
    assert!(codes(&mut bench).is_empty());
}

#[test]
fn a_phone_may_change_its_mtu_and_say_hello_again_but_not_for_ever() {
    let mut bench = Bench::new();
    bench.offer(false);
    let mut phone = Phone::new(1, 20);
    phone.hello(&mut bench, None);
    phone.value_octets_max = 512;
    phone.reassembler = Reassembler::default();
    phone.pay(&mut bench);
    assert_eq!(bench.asked().len(), 1);
    for _ in 2..Settings::default().hellos_max {
        phone.hello(&mut bench, None);
    }
    let (_, message) = Initiator::start(&[], [1; 32]).unwrap();
    phone.write(&mut bench, MessageKind::Handshake, &message);
    assert!(bench.is_disconnected(phone.id));
}

fn any_input() -> impl Strategy<Value = Input> {
    let id = || (0u8..3).prop_map(|id| TransactionId::from_random([id; 16]));
    let phone = || (1u64..4).prop_map(PhoneId);
    prop_oneof![
        phone().prop_map(Input::PhoneConnected),
        phone().prop_map(Input::PhoneDisconnected),
        (phone(), prop::collection::vec(any::<u8>(), 0..80), 0usize..600).prop_map(
            |(phone, value, value_octets_max)| Input::PhoneWrote { phone, value_octets_max, value }
        ),
        any::<u64>().prop_map(|call| Input::Till {
            call: TillCallId(call),
            request: TillRequest::Create(request(true)),
            stored: None
        }),
        (any::<u64>(), id(), any::<bool>()).prop_map(|(call, transaction_id, dispensed)| {
            Input::Till {
                call: TillCallId(call),
                request: TillRequest::Complete { transaction_id, dispensed },
                stored: None,
            }
        }),
        (0u64..20).prop_map(|record| Input::Journalled(RecordNumber(record))),
        id().prop_map(|transaction_id| Input::Institution {
            transaction_id,
            answer: InstitutionAnswer::Transaction {
                state: TransactionState::Approved,
                receipt: None
            },
        }),
        Just(Input::Tick),
    ]
}

proptest! {
    #[test]
    fn any_inputs_in_any_order_are_survived(inputs in prop::collection::vec((any_input(), 0u64..100_000), 0..60)) {
        let (mut terminal, _) =
            Terminal::new(identity(), Settings::default(), [7; 32], Vec::new(), Now::default());
        let mut now = Now::default();
        for (input, milliseconds) in inputs {
            now.moment = now.moment.plus_ms(milliseconds);
            let outputs = terminal.handle(now, input);
            prop_assert!(outputs.len() < 100);
        }
        prop_assert!(terminal.phone_count() <= Settings::default().phones_max);
    }
}

/// What four people with their phones, the till, the institution and the clock may do.
#[derive(Debug, Clone)]
enum Act {
    Hello(usize),
    Pay(usize),
    /// One asks for a result of its own, or with what it knows of another's.
    Ask(usize, usize),
    Noise(usize, Vec<u8>),
    Reconnect(usize),
    Offer,
    Decide,
    Pass(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let person = || 0usize..4;
    prop_oneof![
        4 => person().prop_map(Act::Hello),
        4 => person().prop_map(Act::Pay),
        2 => (person(), person()).prop_map(|(who, whose)| Act::Ask(who, whose)),
        1 => (person(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(who, value)| Act::Noise(who, value)),
        1 => person().prop_map(Act::Reconnect),
        3 => Just(Act::Offer),
        3 => Just(Act::Decide),
        2 => (0u64..25_000).prop_map(Act::Pass),
    ]
}

struct Person {
    phone: Phone,
    hellos: u32,
    offer: Option<Vec<u8>>,
    /// What it has paid, or tried to.
    commands: Vec<(TransactionId, [u8; 32])>,
}

/// A terminal with fewer places than there are people.
struct Crowd {
    bench: Bench,
    people: Vec<Person>,
    last_phone: u64,
    /// Whose command the institution decides on, or has.
    payers: Vec<(TransactionId, PhoneId)>,
    evicted: usize,
}

impl Crowd {
    fn new() -> Self {
        let settings = Settings { phones_max: 3, stay_min_ms: 10_000, ..Settings::default() };
        let mut crowd = Self {
            bench: Bench::with(settings, Vec::new()),
            people: Vec::new(),
            last_phone: 4,
            payers: Vec::new(),
            evicted: 0,
        };
        for id in 1..=4 {
            let phone = Phone::new(id, 512);
            crowd.people.push(Person { phone, hellos: 0, offer: None, commands: Vec::new() });
        }
        crowd
    }

    fn reconnect(&mut self, who: usize) {
        let person = &mut self.people[who];
        self.bench.input(Input::PhoneDisconnected(person.phone.id));
        self.last_phone += 1;
        person.phone = Phone::new(self.last_phone, 512);
        person.hellos = 0;
        person.offer = None;
    }

    fn act(&mut self, act: Act) {
        let whole = Settings::default();
        match act {
            Act::Hello(who) => {
                let is_gone = self.bench.is_disconnected(self.people[who].phone.id);
                if is_gone || self.people[who].hellos + 1 >= whole.hellos_max {
                    self.reconnect(who);
                }
                let person = &mut self.people[who];
                self.bench.input(Input::PhoneConnected(person.phone.id));
                if !self.bench.is_disconnected(person.phone.id) {
                    person.hellos += 1;
                    person.phone.reassembler = Reassembler::default();
                    person.offer = None;
                    if let FromTerminal::Offer(offer) = person.phone.hello(&mut self.bench, None) {
                        person.offer = Some(offer);
                    }
                }
            }
            Act::Pay(who) => {
                let person = &mut self.people[who];
                let Some(offer) = person.offer.take() else { return };
                let command = person.phone.command(&offer);
                let FromPhone::PaymentCommand { transaction_id, sealed_command } = &command else {
                    unreachable!()
                };
                let transaction_id = *transaction_id;
                person
                    .commands
                    .push((transaction_id, SealedCommand::digest_of_encoded(sealed_command)));
                let was_offered = self.bench.state(transaction_id) == PaymentState::Offered;
                person.phone.say(&mut self.bench, &command);
                if was_offered && self.bench.state(transaction_id) == PaymentState::Authorising {
                    self.payers.push((transaction_id, person.phone.id));
                }
            }
            Act::Ask(who, whose) => {
                let Some(&(transaction_id, digest)) = self.people[whose].commands.last() else {
                    return;
                };
                // Nobody else knows the command.
                let command_digest = if who == whose { digest } else { [0; 32] };
                let phone = &mut self.people[who].phone;
                if phone.channel.is_some() {
                    phone.say(
                        &mut self.bench,
                        &FromPhone::ResultQuery { transaction_id, command_digest },
                    );
                }
            }
            Act::Noise(who, value) => {
                let phone = &mut self.people[who].phone;
                self.bench.input(Input::PhoneWrote {
                    phone: phone.id,
                    value_octets_max: 512,
                    value,
                });
                // Whatever it was, and whatever it began: its next hello is on a new connection.
                phone.channel = None;
                self.people[who].offer = None;
                self.people[who].hellos = whole.hellos_max;
            }
            Act::Reconnect(who) => self.reconnect(who),
            Act::Offer => drop(self.bench.till(TillRequest::Create(request(false)))),
            Act::Decide => {
                for request in self.bench.asked() {
                    let state = match request {
                        InstitutionRequest::Capture { .. } => TransactionState::Captured,
                        _ => TransactionState::Approved,
                    };
                    self.bench.answer(request.transaction_id(), state);
                }
            }
            Act::Pass(milliseconds) => self.bench.pass_ms(milliseconds),
        }
    }

    /// The journal's answers go back, as the driver takes them.
    fn load(&mut self) {
        let mut loads = Vec::new();
        self.bench.outputs.retain(|output| match output {
            Output::Load { phone, question } => {
                loads.push((*phone, question.clone()));
                false
            }
            _ => true,
        });
        for (phone, question) in loads {
            let id = question.transaction_id;
            let payment = self
                .bench
                .journal
                .iter()
                .rev()
                .find(|payment| payment.transaction_id == id)
                .cloned();
            self.bench.input(Input::Loaded { phone, question, payment });
        }
    }

    /// Each takes what came for it, and checks it.
    fn hear(&mut self) {
        for person in &mut self.people {
            if person.phone.channel.is_none() {
                self.bench.values_for(person.phone.id);
                continue;
            }
            for message in person.phone.hear(&mut self.bench) {
                match message {
                    FromTerminal::Result { transaction_id, .. } => {
                        assert!(
                            person.commands.iter().any(|(own, _)| *own == transaction_id),
                            "another's result"
                        );
                    }
                    FromTerminal::Offer(offer) => person.offer = Some(offer),
                    _ => {}
                }
            }
        }
        let evictions: Vec<PhoneId> = self
            .bench
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Disconnect { phone, reason: "its place is needed" } => Some(*phone),
                _ => None,
            })
            .collect();
        for phone in evictions.iter().skip(self.evicted) {
            let is_paying = self.payers.iter().any(|(transaction_id, payer)| {
                payer == phone && self.bench.state(*transaction_id) == PaymentState::Authorising
            });
            assert!(!is_paying, "the payer was sent away");
        }
        self.evicted = evictions.len();
        assert!(self.bench.terminal.phone_count() <= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_any_crowd_results_go_to_who_paid_and_payers_keep_their_place(acts in prop::collection::vec(any_act(), 0..60)) {
        let mut crowd = Crowd::new();
        for act in acts {
            crowd.act(act);
            crowd.load();
            crowd.hear();
        }
    }
}
