//! The session against a terminal that is driven by hand, with real keys, octet by octet.

use proptest::prelude::*;

use super::conversation::{
    ANSWER_MS_MAX, KEYRING_MS_MAX, PENDING_MS_MAX, QUIET_MS_MAX, RESULT_MS_MAX,
};
use super::line::UNREADABLE_MAX;
use super::*;
use crate::credential::{
    CardCommand, SealedCommand, Signed, TerminalCertificate, sign_exclusion, sign_receipt,
};
use crate::domain::{
    CommandDigest, DeclineReason, Exclusion, Moment, Offer, OfferDigest, Outcome, Receipt,
    ReceiptStatus, TransactionId, UnixTime,
};
use crate::protocol::{
    Channel, ChannelKey, EngagementLink, Fingerprint, FragmentTag, Fragmenter, FromPhone,
    FromTerminal, Hello, HelloAnswer, MessageKind, ProtocolError, Reassembler, WireError, accept,
    digest_offer, encode_offer, encode_plain_error, matching_code,
};
use crate::wallet::fixtures::*;
use crate::wallet::{
    LinkFault, NotPaid, PaymentRecord, PaymentStatus, PendingReason, ReceiptFault, Refusal,
    SessionEnd, TerminalWord,
};

/// The terminal's end of one connection.
struct Terminal {
    reassembler: Reassembler,
    fragmenter: Fragmenter,
    channel: Option<Channel>,
    opening: Option<FromPhone>,
    /// The transaction of the hello.
    asked_for: Option<TransactionId>,
}

impl Terminal {
    fn new() -> Self {
        Self {
            reassembler: Reassembler::default(),
            fragmenter: Fragmenter::new(FragmentTag::from_low_bits(TAG)),
            channel: None,
            opening: None,
            asked_for: None,
        }
    }

    /// Reads the opening; what else the session did.
    fn take_opening(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        let is_opening = |output: &Output| {
            matches!(output, Output::Tell(Notice::MessageSent { message: "opening", .. }))
        };
        let Some(last) = outputs.iter().position(is_opening) else { return outputs };
        let rest = outputs.split_off(last + 1);
        let mut messages = self.open(&outputs);
        self.opening = messages.pop();
        assert!(messages.is_empty(), "the opening is the first message");
        outputs.retain(|output| !matches!(output, Output::Write(_)) && !is_opening(output));
        outputs.extend(rest);
        outputs
    }

    /// The messages that these outputs write.
    fn hear(&mut self, outputs: &[Output]) -> Vec<(MessageKind, Vec<u8>)> {
        let mut messages = Vec::new();
        for output in outputs {
            if let Output::Write(value) = output {
                assert!(value.len() <= 200);
                messages.extend(self.reassembler.put(value).unwrap());
            }
        }
        messages
    }

    /// The sealed messages that these outputs write, opened.
    fn open(&mut self, outputs: &[Output]) -> Vec<FromPhone> {
        let messages = self.hear(outputs);
        let channel = self.channel.as_mut().unwrap();
        messages
            .into_iter()
            .map(|(kind, message)| {
                assert_eq!(kind, MessageKind::Sealed);
                FromPhone::decode(&channel.open(&message).unwrap()).unwrap()
            })
            .collect()
    }

    fn answer(
        &mut self,
        hello: &[Output],
        key: &ChannelKey,
        certificate: &Signed,
        first: FromTerminal,
    ) -> Vec<Vec<u8>> {
        let messages = self.hear(hello);
        let [(MessageKind::Handshake, hello)] = messages.as_slice() else { panic!("{messages:?}") };
        let (channel, answer) = accept(hello, key, [9; 32], |payload| {
            self.asked_for = Hello::decode(payload)?.transaction_id;
            Ok(HelloAnswer { certificate: certificate.encode(), first }.encode())
        })
        .unwrap();
        self.channel = Some(channel);
        self.fragmenter.cut(MessageKind::Handshake, &answer, 200).unwrap()
    }

    fn say(&mut self, message: &FromTerminal) -> Vec<Vec<u8>> {
        let sealed = self.channel.as_mut().unwrap().seal(&message.encode()).unwrap();
        self.fragmenter.cut(MessageKind::Sealed, &sealed, 200).unwrap()
    }
}

/// Gives values to the session; all that comes out.
fn give(session: &mut Session, now: Moment, values: Vec<Vec<u8>>) -> Vec<Output> {
    values.into_iter().flat_map(|value| session.handle(now, Input::Value(value)).unwrap()).collect()
}

fn end_of(outputs: &[Output]) -> &SessionEnd {
    let [.., Output::End(end), Output::Disconnect] = outputs else { panic!("no end: {outputs:?}") };
    end
}

fn asked(outputs: &[Output]) -> &OfferView {
    let found = outputs.iter().find_map(|output| match output {
        Output::Ask(view) => Some(view),
        Output::Write(_)
        | Output::Reserve(_)
        | Output::Store { .. }
        | Output::StoreKeyring(_)
        | Output::Tell(_)
        | Output::End(_)
        | Output::Disconnect => None,
    });
    found.unwrap_or_else(|| panic!("nothing asked: {outputs:?}"))
}

fn stored(outputs: &[Output]) -> PaymentRecord {
    let found = outputs.iter().find_map(|output| match output {
        Output::Store { record, .. } => Some(record.as_ref().clone()),
        Output::Write(_)
        | Output::Ask(_)
        | Output::Reserve(_)
        | Output::StoreKeyring(_)
        | Output::Tell(_)
        | Output::End(_)
        | Output::Disconnect => None,
    });
    found.unwrap_or_else(|| panic!("nothing stored: {outputs:?}"))
}

fn writes(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Write(_))).count()
}

/// A session that has had the answer to its hello.
fn after_answer_with(
    settings: SessionSettings,
    key: &ChannelKey,
    certificate: &Signed,
    first: FromTerminal,
) -> (Session, Terminal, Vec<Output>) {
    let mut terminal = Terminal::new();
    let (mut session, outputs) = Session::pay(card(), settings, seed(1), at(0)).unwrap();
    let values = terminal.answer(&outputs, key, certificate, first);
    let outputs = give(&mut session, at(10), values);
    let outputs = terminal.take_opening(outputs);
    (session, terminal, outputs)
}

fn after_offer(settings: SessionSettings, offer: &Offer) -> (Session, Terminal, Vec<Output>) {
    let first = FromTerminal::Offer(encode_offer(offer));
    after_answer_with(settings, &channel_key(), &certificate().sign(&certificate_key()), first)
}

/// A session whose command has just left, and what left.
fn after_command() -> (Session, Terminal, FromPhone) {
    let (mut session, mut terminal, outputs) = after_offer(settings(), &offer());
    asked(&outputs);
    let outputs = session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
    assert_eq!(outputs, [Output::Reserve(transaction_id())]);
    let outputs = session.handle(at(21), Input::Reserved(Reservation::Counter(3))).unwrap();
    assert_eq!(writes(&outputs), 0, "nothing leaves before it is stored");
    let record = stored(&outputs);
    assert_eq!(record.status, PaymentStatus::Pending);
    let outputs = session.handle(at(22), Input::Stored).unwrap();
    assert!(outputs.contains(&Output::Tell(Notice::CommandSent)));
    let mut messages = terminal.open(&outputs);
    assert_eq!(messages.len(), 1);
    (session, terminal, messages.remove(0))
}

/// The digest of the command that every session here sends.
fn digest() -> CommandDigest {
    earlier_record().command_digest()
}

/// An approval of that command.
fn receipt() -> Receipt {
    crate::wallet::fixtures::receipt(digest())
}

/// That the institution uses none but this command.
fn exclusion(command_digest: Option<CommandDigest>) -> Exclusion {
    Exclusion {
        transaction_id: transaction_id(),
        terminal_id: terminal_id(),
        command_digest,
        decided_at: NOW,
    }
}

fn not_used(exclusion: &Exclusion) -> FromTerminal {
    FromTerminal::NotUsed {
        transaction_id: transaction_id(),
        exclusion: sign_exclusion(exclusion, &receipt_key()).encode(),
    }
}

/// What the session makes of a result.
fn result_of(
    outcome: Outcome,
    receipt: Option<Vec<u8>>,
) -> (SessionEnd, Option<PaymentRecord>, Vec<FromPhone>) {
    let (mut session, mut terminal, _) = after_command();
    let values =
        terminal.say(&FromTerminal::Result { transaction_id: transaction_id(), outcome, receipt });
    let outputs = give(&mut session, at(30), values);
    let record = stored(&outputs);
    let outputs = session.handle(at(31), Input::Stored).unwrap();
    let messages = terminal.open(&outputs);
    (end_of(&outputs).clone(), Some(record), messages)
}

#[test]
fn a_payment_takes_two_round_trips_and_ends_with_a_proven_receipt() {
    let (mut session, mut terminal, command) = after_command();
    let FromPhone::PaymentCommand { transaction_id: id, sealed_command } = command else {
        panic!()
    };
    assert_eq!(id, transaction_id());

    // The command opens for the institution, and is the card's over what was shown.
    let digest = digest_offer(&encode_offer(&offer()));
    let sealed = SealedCommand::decode(&sealed_command).unwrap();
    let signed = Signed::decode(&sealing_key().open(&sealed, &digest).unwrap()).unwrap();
    CardCommand::verify(&signed, &card_key().verifying_key()).unwrap();
    let command = CardCommand::read_unverified(&signed).unwrap();
    assert_eq!(command.counter, 3);
    assert_eq!(command.offer_digest, digest);
    assert_eq!(command.card_id, card_id());

    let working = terminal.say(&FromTerminal::Working);
    assert!(give(&mut session, at(2000), working).contains(&Output::Tell(Notice::Working)));
    let result = FromTerminal::Result {
        transaction_id: transaction_id(),
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt(&receipt())),
    };
    let values = terminal.say(&result);
    let outputs = give(&mut session, at(2100), values);
    let record = stored(&outputs);
    assert_eq!(record.status, PaymentStatus::Approved);
    assert_eq!(record.verified_receipt(card().keyring()).unwrap(), Some(receipt()));
    assert_eq!(writes(&outputs), 0, "acknowledged only when stored");
    let outputs = session.handle(at(2101), Input::Stored).unwrap();
    assert_eq!(terminal.open(&outputs), [FromPhone::ReceiptAck]);
    assert_eq!(end_of(&outputs), &SessionEnd::Settled(receipt()));
    assert_eq!(session.handle(at(2102), Input::Tick), Err(InputRefusal::Ended));
    assert_eq!(PaymentRecord::from_json(&record.to_json()), Ok(record));
}

#[test]
fn both_screens_show_the_same_code_and_the_person_sees_the_offer() {
    let (_, terminal, outputs) = after_offer(settings(), &offer());
    let view = asked(&outputs);
    assert_eq!(
        view.matching_code,
        matching_code(terminal.channel.unwrap().handshake_hash(), &seed(1).matching_nonce)
    );
    assert_eq!(view.offer, offer());
}

/// The end of a session that waits for a newer keyring and gets none, if it waits for one.
fn waits_in_vain(session: &mut Session, terminal: &Terminal) -> Option<Vec<Output>> {
    terminal.opening.as_ref()?;
    let deadline = session.deadline()?;
    Some(session.handle(deadline, Input::Tick).unwrap())
}

#[test]
fn a_terminal_that_cannot_prove_who_it_is_is_refused_before_anything_is_shown() {
    let good = certificate().sign(&certificate_key());
    let first = || FromTerminal::Offer(encode_offer(&offer()));
    let expired = UnixTime { seconds: NOW.seconds + 11 };
    let cases: Vec<(&str, SessionSettings, ChannelKey, Signed)> = vec![
        ("signed by nobody known", settings(), channel_key(), certificate().sign(&key(77))),
        (
            "signed with the key for receipts",
            settings(),
            channel_key(),
            certificate().sign(&receipt_key()),
        ),
        (
            "expired",
            SessionSettings { wall_clock: expired, ..settings() },
            channel_key(),
            good.clone(),
        ),
        (
            "another terminal's certificate",
            settings(),
            ChannelKey::from_octets([66; 32]),
            good.clone(),
        ),
        (
            "a look-alike with a good certificate",
            SessionSettings { link: Some(link(Fingerprint([1; 16]), None)), ..settings() },
            channel_key(),
            good.clone(),
        ),
        (
            "another terminal than the link's",
            SessionSettings {
                link: Some(EngagementLink {
                    terminal_id: "ABCDEFGHJK".parse().unwrap(),
                    ..link(Fingerprint::of(&channel_key().public_key()), None)
                }),
                ..settings()
            },
            channel_key(),
            good.clone(),
        ),
        (
            "a name with another's short code",
            SessionSettings { short_code: Some("FGHJ".into()), ..settings() },
            channel_key(),
            good.clone(),
        ),
    ];
    for (name, settings, channel_key, certificate) in cases {
        let (mut session, terminal, outputs) =
            after_answer_with(settings, &channel_key, &certificate, first());
        let outputs = waits_in_vain(&mut session, &terminal).unwrap_or(outputs);
        let SessionEnd::Refused(refusal) = end_of(&outputs).clone() else {
            panic!("{name}: {outputs:?}")
        };
        assert_eq!(writes(&outputs), 0, "{name}");
        let right = match name {
            "another terminal's certificate" => refusal == Refusal::CertificateOfAnotherKey,
            "a look-alike with a good certificate" => refusal == Refusal::LookAlike,
            "another terminal than the link's" => matches!(refusal, Refusal::OtherTerminal { .. }),
            "a name with another's short code" => {
                refusal == Refusal::OtherShortCode { expected: "FGHJ".into(), found: terminal_id() }
            }
            _ => matches!(refusal, Refusal::Certificate(_)),
        };
        assert!(right, "{name}: {refusal:?}");
    }
}

#[test]
fn a_terminal_whose_certificate_has_the_short_code_that_was_pointed_at_is_paid() {
    let short_code = Some(terminal_id().short_code().to_owned());
    let (_, _, outputs) = after_offer(SessionSettings { short_code, ..settings() }, &offer());
    assert_eq!(asked(&outputs).offer, offer());
}

#[test]
fn an_offer_that_is_not_right_is_refused_and_cancelled() {
    let other_transaction = link(
        Fingerprint::of(&channel_key().public_key()),
        Some(TransactionId::from_random([99; 16])),
    );
    let own_limit = SessionSettings { limit: Some("2.49 EUR".parse().unwrap()), ..settings() };
    let with_link = SessionSettings { link: Some(other_transaction), ..settings() };
    let limit = "2.49 EUR".parse().unwrap();
    let cases = [
        (
            settings(),
            offer_with(|parts| parts.merchant_name = "Bank".into()),
            Refusal::OfferOfAnotherMerchant,
        ),
        (
            settings(),
            offer_with(|parts| parts.terminal_id = "ABCDEFGHJK".parse().unwrap()),
            Refusal::OfferOfAnotherTerminal,
        ),
        (
            settings(),
            offer_with(|parts| parts.amount = "50.01 EUR".parse().unwrap()),
            Refusal::OverLimit {
                amount: "50.01 EUR".parse().unwrap(),
                limit: "50.00 EUR".parse().unwrap(),
            },
        ),
        (own_limit, offer(), Refusal::OverLimit { amount: offer().amount(), limit }),
        (
            settings(),
            offer_with(|parts| parts.amount = "2.50 USD".parse().unwrap()),
            Refusal::OtherCurrency {
                amount: "2.50 USD".parse().unwrap(),
                card: "EUR".parse().unwrap(),
            },
        ),
        (with_link, offer(), Refusal::OtherTransaction),
    ];
    for (settings, offer, expected) in cases {
        let (_, mut terminal, outputs) = after_offer(settings, &offer);
        assert_eq!(end_of(&outputs), &SessionEnd::Refused(expected));
        assert_eq!(terminal.open(&outputs), [FromPhone::Cancel]);
    }
}

#[test]
fn a_card_that_cannot_pay_says_so_before_a_word_is_sent() {
    let refusal = |wall_clock| {
        let settings = SessionSettings { wall_clock, ..settings() };
        Session::pay(card(), settings, seed(1), at(0)).map(drop).unwrap_err()
    };
    assert_eq!(refusal(later(1001)), Refusal::CardExpired(later(1000)));
    assert!(matches!(refusal(UnixTime { seconds: 1000 }), Refusal::ClockBehind { .. }));
}

#[test]
fn a_receipt_that_does_not_fit_proves_nothing() {
    let approved = |receipt: Receipt| (Outcome::Approved, Some(signed_receipt(&receipt)));
    let declined = ReceiptStatus::Declined(DeclineReason::InsufficientFunds);
    let other_id = TransactionId::from_random([50; 16]);
    let cases = [
        ((Outcome::Approved, None), ReceiptFault::Missing),
        ((Outcome::Declined(DeclineReason::CardBlocked), None), ReceiptFault::Missing),
        // An old one, of another payment.
        (
            approved(Receipt { transaction_id: other_id, ..receipt() }),
            ReceiptFault::OtherTransaction,
        ),
        (
            approved(Receipt { offer_digest: OfferDigest([1; 32]), ..receipt() }),
            ReceiptFault::OtherOffer,
        ),
        (
            approved(Receipt { amount: "0.01 EUR".parse().unwrap(), ..receipt() }),
            ReceiptFault::OtherAmount,
        ),
        (
            approved(Receipt { terminal_id: "ABCDEFGHJK".parse().unwrap(), ..receipt() }),
            ReceiptFault::OtherTerminal,
        ),
        (
            approved(Receipt { command_digest: CommandDigest([1; 32]), ..receipt() }),
            ReceiptFault::OtherCommand,
        ),
        (approved(Receipt { status: declined.clone(), ..receipt() }), ReceiptFault::OtherStatus),
        (
            (Outcome::Declined(DeclineReason::InsufficientFunds), Some(signed_receipt(&receipt()))),
            ReceiptFault::OtherStatus,
        ),
        (
            (
                Outcome::Declined(DeclineReason::CardBlocked),
                Some(signed_receipt(&Receipt { status: declined.clone(), ..receipt() })),
            ),
            ReceiptFault::OtherStatus,
        ),
        ((Outcome::Reversed, Some(signed_receipt(&receipt()))), ReceiptFault::OtherStatus),
        // Another offer is only believed where the institution declined for just that.
        (
            (
                Outcome::Declined(DeclineReason::InsufficientFunds),
                Some(signed_receipt(&Receipt {
                    status: declined,
                    offer_digest: OfferDigest([1; 32]),
                    ..receipt()
                })),
            ),
            ReceiptFault::OtherOffer,
        ),
    ];
    for ((outcome, receipt), expected) in cases {
        let (end, record, messages) = result_of(outcome, receipt);
        assert_eq!(end, SessionEnd::NotProven(expected));
        assert_eq!(record.unwrap().status, PaymentStatus::NotProven);
        assert!(messages.is_empty(), "nothing is acknowledged");
    }
    for forged in [
        sign_receipt(&receipt(), &key(78)).encode(),
        sign_receipt(&receipt(), &certificate_key()).encode(),
        vec![1, 2, 3],
    ] {
        let (end, _, _) = result_of(Outcome::Approved, Some(forged));
        assert!(matches!(end, SessionEnd::NotProven(ReceiptFault::Credential(_))), "{end:?}");
    }
}

#[test]
fn declined_and_reversed_are_believed_with_their_proof() {
    let declined =
        Receipt { status: ReceiptStatus::Declined(DeclineReason::InsufficientFunds), ..receipt() };
    let (end, _, messages) = result_of(
        Outcome::Declined(DeclineReason::InsufficientFunds),
        Some(signed_receipt(&declined)),
    );
    assert_eq!(end, SessionEnd::Settled(declined));
    assert_eq!(messages.len(), 1);
    // The institution saw another offer: its refusal proves that nothing is charged.
    let tampered = Receipt {
        status: ReceiptStatus::Declined(DeclineReason::OfferMismatch),
        offer_digest: OfferDigest([1; 32]),
        amount: "25.00 EUR".parse().unwrap(),
        ..receipt()
    };
    let (end, _, _) =
        result_of(Outcome::Declined(DeclineReason::OfferMismatch), Some(signed_receipt(&tampered)));
    assert_eq!(end, SessionEnd::Settled(tampered));
    let reversed = Receipt { status: ReceiptStatus::Reversed, ..receipt() };
    let (end, _, _) = result_of(Outcome::Reversed, Some(signed_receipt(&reversed)));
    assert_eq!(end, SessionEnd::Settled(reversed));
}

#[test]
fn an_offer_that_comes_later_is_paid_on_the_same_channel() {
    let signed = certificate().sign(&certificate_key());
    let (mut session, mut terminal, outputs) =
        after_answer_with(settings(), &channel_key(), &signed, FromTerminal::NothingToPay);
    assert!(outputs.contains(&Output::Tell(Notice::NothingToPay)));
    assert_eq!(session.deadline(), Some(at(30_010)));
    let values = terminal.say(&FromTerminal::Offer(encode_offer(&offer())));
    let outputs = give(&mut session, at(20_000), values);
    asked(&outputs);
    assert_eq!(session.deadline(), Some(at(80_000)), "the offer's own time");

    let (mut session, _, _) =
        after_answer_with(settings(), &channel_key(), &signed, FromTerminal::NothingToPay);
    assert_eq!(session.handle(at(30_009), Input::Tick).unwrap(), []);
    let outputs = session.handle(at(30_010), Input::Tick).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::NotPaid(NotPaid::NothingToPay));
}

#[test]
fn before_a_command_everything_ends_without_one() {
    let id = transaction_id();
    for (message, expected) in [
        (FromTerminal::Taken(id), NotPaid::Taken),
        (FromTerminal::Withdrawn(id), NotPaid::Withdrawn),
        (FromTerminal::Expired(id), NotPaid::Expired),
        (
            FromTerminal::Error(ProtocolError::new(WireError::OutOfService, "")),
            NotPaid::Terminal(WireError::OutOfService),
        ),
    ] {
        let (mut session, mut terminal, _) = after_offer(settings(), &offer());
        let values = terminal.say(&message);
        let outputs = give(&mut session, at(20), values);
        assert_eq!(end_of(&outputs), &SessionEnd::NotPaid(expected.clone()));
        let signed = certificate().sign(&certificate_key());
        let (_, _, outputs) = after_answer_with(settings(), &channel_key(), &signed, message);
        assert_eq!(end_of(&outputs), &SessionEnd::NotPaid(expected));
    }
    // Another payment's end is not this one's.
    let (mut session, mut terminal, _) = after_offer(settings(), &offer());
    let values = terminal.say(&FromTerminal::Taken(TransactionId::from_random([42; 16])));
    assert_eq!(writes(&give(&mut session, at(20), values)), 0);
    let outputs = session.handle(at(30), Input::Decided(Decision::Decline)).unwrap();
    assert_eq!(terminal.open(&outputs), [FromPhone::Cancel]);
    assert_eq!(end_of(&outputs), &SessionEnd::NotPaid(NotPaid::Declined));
    // Nobody exchanges the offer under the person's eyes.
    let (mut session, mut terminal, _) = after_offer(settings(), &offer());
    let dearer = offer_with(|parts| parts.amount = "25.00 EUR".parse().unwrap());
    let values = terminal.say(&FromTerminal::Offer(encode_offer(&dearer)));
    let outputs = give(&mut session, at(20), values);
    assert!(matches!(end_of(&outputs), SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(_))));
    // Too late.
    let (mut session, _, _) = after_offer(settings(), &offer());
    let outputs = session.handle(at(60_010), Input::Tick).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::NotPaid(NotPaid::DecidedTooLate));
    // The link.
    let (mut session, _, _) = after_offer(settings(), &offer());
    let outputs = session.handle(at(20), Input::LinkLost).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::LinkFailed(LinkFault::Lost));
    let (mut session, _) = Session::pay(card(), settings(), seed(1), at(0)).unwrap();
    let outputs = session.handle(at(ANSWER_MS_MAX), Input::Tick).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::LinkFailed(LinkFault::NoAnswer));
}

#[test]
fn after_a_command_only_an_answer_ends_it_as_anything_but_pending() {
    let (mut session, _, _) = after_command();
    let outputs = session.handle(at(30), Input::LinkLost).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::Pending(PendingReason::LinkLost));

    let (mut session, _, _) = after_command();
    let deadline = session.deadline().unwrap();
    assert_eq!(deadline, at(22 + QUIET_MS_MAX));
    let outputs = session.handle(deadline, Input::Tick).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::Pending(PendingReason::NoSignOfLife));

    // Signs of life do not keep a person for ever.
    let (mut session, mut terminal, _) = after_command();
    let mut now = 22;
    let end = loop {
        now += 2000;
        let values = terminal.say(&FromTerminal::Working);
        give(&mut session, at(now), values);
        let outputs = session.handle(at(now), Input::Tick).unwrap();
        if !outputs.is_empty() {
            break end_of(&outputs).clone();
        }
        assert!(now < 2 * RESULT_MS_MAX);
    };
    assert_eq!(end, SessionEnd::Pending(PendingReason::TookTooLong));

    // An error in the clear is anybody's.
    let (mut session, _, _) = after_command();
    let error = encode_plain_error(&ProtocolError::new(WireError::ChannelFailed, ""));
    let fragmenter = Fragmenter::new(FragmentTag::from_low_bits(TAG));
    let values = fragmenter.cut(MessageKind::PlainError, &error, 200).unwrap();
    assert!(
        !give(&mut session, at(30), values).iter().any(|output| matches!(output, Output::End(_)))
    );

    // A sealed error says nothing of the money.
    let (mut session, mut terminal, _) = after_command();
    let error = ProtocolError::new(WireError::TransactionUnknown, "");
    let values = terminal.say(&FromTerminal::Error(error));
    let outputs = give(&mut session, at(30), values);
    let reason = PendingReason::Terminal(WireError::TransactionUnknown);
    assert_eq!(end_of(&outputs), &SessionEnd::Pending(reason));
}

/// What a terminal may say of a command without a proof.
fn words() -> Vec<(FromTerminal, TerminalWord)> {
    let id = transaction_id();
    let reversed =
        FromTerminal::Result { transaction_id: id, outcome: Outcome::Reversed, receipt: None };
    let unreachable = WireError::InstitutionUnreachable;
    vec![
        (FromTerminal::Taken(id), TerminalWord::Taken),
        (FromTerminal::Withdrawn(id), TerminalWord::Withdrawn),
        (FromTerminal::Expired(id), TerminalWord::Expired),
        (reversed, TerminalWord::Reversed),
        (
            FromTerminal::Error(ProtocolError::new(unreachable, "")),
            TerminalWord::Institution(unreachable),
        ),
    ]
}

#[test]
fn the_word_of_a_terminal_ends_no_doubt_and_the_proof_may_follow() {
    for (message, word) in words() {
        let unproven = SessionEnd::Unproven(word);
        let is_stored = |outputs: &[Output]| {
            outputs.iter().any(|output| matches!(output, Output::Store { .. }))
        };
        // Without a proof: the record stays as it is, open.
        let (mut session, mut terminal, _) = after_command();
        let values = terminal.say(&message);
        let outputs = give(&mut session, at(100), values);
        assert!(outputs.contains(&Output::Tell(Notice::Unproven(word))), "{word:?}");
        assert!(!is_stored(&outputs), "{word:?}");
        assert_eq!(session.deadline(), Some(at(100 + PENDING_MS_MAX)));
        // Saying it again does not keep the person longer.
        let values = terminal.say(&message);
        give(&mut session, at(9000), values);
        let outputs = session.handle(at(100 + PENDING_MS_MAX), Input::Tick).unwrap();
        assert_eq!(end_of(&outputs), &unproven);
        assert!(!is_stored(&outputs), "{word:?}");

        let (mut session, mut terminal, _) = after_command();
        let values = terminal.say(&message);
        give(&mut session, at(100), values);
        let outputs = session.handle(at(200), Input::LinkLost).unwrap();
        assert_eq!(end_of(&outputs), &unproven);

        // With a proof, whichever way.
        let other = exclusion(Some(CommandDigest([1; 32])));
        let approved = FromTerminal::Result {
            transaction_id: transaction_id(),
            outcome: Outcome::Approved,
            receipt: Some(signed_receipt(&receipt())),
        };
        for (proof, expected) in [
            (not_used(&other), SessionEnd::NotCharged(other)),
            (approved, SessionEnd::Settled(receipt())),
        ] {
            let (mut session, mut terminal, _) = after_command();
            let values = terminal.say(&message);
            give(&mut session, at(100), values);
            let values = terminal.say(&proof);
            assert!(is_stored(&give(&mut session, at(200), values)));
            let outputs = session.handle(at(201), Input::Stored).unwrap();
            assert_eq!(end_of(&outputs), &expected);
            assert_eq!(terminal.open(&outputs), [FromPhone::ReceiptAck]);
        }
    }
}

#[test]
fn an_exclusion_is_believed_only_if_it_leaves_this_command_out() {
    for command_digest in [None, Some(CommandDigest([1; 32]))] {
        let (mut session, mut terminal, _) = after_command();
        let values = terminal.say(&not_used(&exclusion(command_digest)));
        let record = stored(&give(&mut session, at(30), values));
        assert_eq!(record.status, PaymentStatus::NotCharged);
        assert!(record.exclusion.is_some() && !record.is_open());
        assert_eq!(PaymentRecord::from_json(&record.to_json()), Ok(record));
        let outputs = session.handle(at(31), Input::Stored).unwrap();
        assert_eq!(end_of(&outputs), &SessionEnd::NotCharged(exclusion(command_digest)));
    }
    let other_terminal = "ABCDEFGHJK".parse().unwrap();
    let good = exclusion(None);
    let forged = FromTerminal::NotUsed {
        transaction_id: transaction_id(),
        exclusion: sign_exclusion(&good, &key(78)).encode(),
    };
    let as_receipt =
        FromTerminal::NotUsed { transaction_id: transaction_id(), exclusion: vec![1, 2, 3] };
    for message in [
        not_used(&exclusion(Some(digest()))),
        not_used(&Exclusion { terminal_id: other_terminal, ..good.clone() }),
        not_used(&Exclusion { transaction_id: TransactionId::from_random([9; 16]), ..good }),
        forged,
        as_receipt,
    ] {
        let (mut session, mut terminal, _) = after_command();
        let values = terminal.say(&message);
        let record = stored(&give(&mut session, at(30), values));
        assert!(record.status == PaymentStatus::NotProven && record.is_open());
        let outputs = session.handle(at(31), Input::Stored).unwrap();
        assert!(matches!(end_of(&outputs), SessionEnd::NotProven(_)), "{outputs:?}");
    }
}

#[test]
fn a_pending_result_may_be_followed_by_the_end() {
    let pending = FromTerminal::Result {
        transaction_id: transaction_id(),
        outcome: Outcome::Pending,
        receipt: None,
    };
    let (mut session, mut terminal, _) = after_command();
    let values = terminal.say(&pending);
    assert!(give(&mut session, at(100), values).contains(&Output::Tell(Notice::Pending)));
    assert_eq!(session.deadline(), Some(at(100 + PENDING_MS_MAX)));
    let values = terminal.say(&FromTerminal::Result {
        transaction_id: transaction_id(),
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt(&receipt())),
    });
    give(&mut session, at(5000), values);
    let outputs = session.handle(at(5001), Input::Stored).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::Settled(receipt()));

    let (mut session, mut terminal, _) = after_command();
    let values = terminal.say(&pending);
    give(&mut session, at(100), values);
    // Repeating it does not keep the person longer.
    let values = terminal.say(&pending);
    give(&mut session, at(9000), values);
    let outputs = session.handle(at(100 + PENDING_MS_MAX), Input::Tick).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::Pending(PendingReason::Institution));
}

/// A record as the first, broken-off session left it.
fn earlier_record() -> PaymentRecord {
    let (mut session, _, _) = after_offer(settings(), &offer());
    session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
    stored(&session.handle(at(21), Input::Reserved(Reservation::Counter(3))).unwrap())
}

#[test]
fn a_stored_receipt_is_judged_by_the_time_at_which_it_was_stored() {
    let mut record = earlier_record();
    record.receipt = Some(signed_receipt(&receipt()));
    let keyring_until = |not_after| {
        let mut keyring = card().keyring().clone();
        keyring.keys.iter_mut().for_each(|key| key.not_after = not_after);
        keyring
    };
    // The key has long ended by now; it had not when the receipt came.
    let kept = record.verified_receipt(&keyring_until(record.updated_at)).unwrap();
    assert_eq!(kept, Some(receipt()));
    let ended_before = UnixTime { seconds: record.updated_at.seconds - 1 };
    assert!(record.verified_receipt(&keyring_until(ended_before)).is_err());
}

#[test]
fn a_result_can_be_asked_for_later() {
    let record = earlier_record();
    let mut terminal = Terminal::new();
    let scanned = link(Fingerprint::of(&channel_key().public_key()), Some(transaction_id()));
    let with_link = SessionSettings { link: Some(scanned), ..settings() };
    let (mut session, outputs) = Session::ask(card(), record.clone(), with_link, seed(2), at(0));
    let signed = certificate().sign(&certificate_key());
    let values = terminal.answer(&outputs, &channel_key(), &signed, FromTerminal::NothingToPay);
    assert_eq!(terminal.asked_for, None, "nobody on the air learns which payment is asked about");
    let outputs = give(&mut session, at(10), values);
    let outputs = terminal.take_opening(outputs);
    assert_eq!(
        terminal.open(&outputs),
        [FromPhone::ResultQuery {
            transaction_id: transaction_id(),
            command_digest: SealedCommand::digest_of_encoded(record.sealed_command()),
        }]
    );
    let values = terminal.say(&FromTerminal::Result {
        transaction_id: transaction_id(),
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt(&receipt())),
    });
    let outputs = give(&mut session, at(20), values);
    let settled = stored(&outputs);
    assert_eq!(settled.status, PaymentStatus::Approved);
    let outputs = session.handle(at(21), Input::Stored).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::Settled(receipt()));

    // What was given back stays given back: the approval is an old receipt then.
    let mut reversed = settled;
    reversed.status = PaymentStatus::Reversed;
    assert!(!reversed.is_open());
    let mut terminal = Terminal::new();
    let (mut session, outputs) = Session::ask(card(), reversed, settings(), seed(3), at(0));
    let values = terminal.answer(&outputs, &channel_key(), &signed, FromTerminal::NothingToPay);
    give(&mut session, at(10), values);
    let values = terminal.say(&FromTerminal::Result {
        transaction_id: transaction_id(),
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt(&receipt())),
    });
    let outputs = give(&mut session, at(20), values);
    assert_eq!(end_of(&outputs), &SessionEnd::NotProven(ReceiptFault::Outdated));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Store { .. })));
}

#[test]
fn only_the_terminal_of_the_payment_is_asked_for_its_result() {
    let mut terminal = Terminal::new();
    let (mut session, outputs) = Session::ask(card(), earlier_record(), settings(), seed(2), at(0));
    let other = TerminalCertificate { terminal_id: "ABCDEFGHJK".parse().unwrap(), ..certificate() };
    let signed = other.sign(&certificate_key());
    let values = terminal.answer(&outputs, &channel_key(), &signed, FromTerminal::NothingToPay);
    let outputs = give(&mut session, at(10), values);
    assert!(matches!(end_of(&outputs), SessionEnd::Refused(Refusal::OtherTerminal { .. })));
    assert_eq!(writes(&outputs), 0);
}

#[test]
fn a_payment_that_is_offered_again_gets_the_same_command_again() {
    let record = earlier_record();
    let (mut session, mut terminal, _) = after_offer(settings(), &offer());
    session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
    let earlier = Input::Reserved(Reservation::Earlier(Box::new(record.clone())));
    let outputs = session.handle(at(21), earlier).unwrap();
    assert!(matches!(outputs.as_slice(), [Output::Store { is_new: false, .. }]));
    let outputs = session.handle(at(22), Input::Stored).unwrap();
    let [FromPhone::PaymentCommand { sealed_command, .. }] = &terminal.open(&outputs)[..] else {
        panic!()
    };
    assert_eq!(sealed_command, record.sealed_command());

    // With other content under the same id, or settled already: not again.
    let dearer = offer_with(|parts| parts.amount = "25.00 EUR".parse().unwrap());
    let mut settled = record.clone();
    settled.status = PaymentStatus::Approved;
    for (offer, record, expected) in
        [(dearer, record, Refusal::OfferChanged), (offer(), settled, Refusal::AlreadySettled)]
    {
        let (mut session, mut terminal, _) = after_offer(settings(), &offer);
        session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
        let earlier = Input::Reserved(Reservation::Earlier(Box::new(record)));
        let outputs = session.handle(at(21), earlier).unwrap();
        assert_eq!(end_of(&outputs), &SessionEnd::Refused(expected));
        assert!(matches!(terminal.open(&outputs)[..], [FromPhone::Cancel]));
    }
}

#[test]
fn what_cannot_be_stored_is_not_sent() {
    for fails_at_reservation in [true, false] {
        let (mut session, _, _) = after_offer(settings(), &offer());
        session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
        if !fails_at_reservation {
            session.handle(at(21), Input::Reserved(Reservation::Counter(3))).unwrap();
        }
        let outputs = session.handle(at(22), Input::StoreFailed).unwrap();
        assert_eq!(end_of(&outputs), &SessionEnd::StoreFailed);
        assert_eq!(writes(&outputs), 0);
    }
    // A link that goes while the store works: the record says that nothing left.
    let (mut session, _, _) = after_offer(settings(), &offer());
    session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
    session.handle(at(21), Input::Reserved(Reservation::Counter(3))).unwrap();
    let outputs = session.handle(at(22), Input::LinkLost).unwrap();
    assert_eq!(stored(&outputs).status, PaymentStatus::NotSent);
    let outputs = session.handle(at(23), Input::Stored).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::LinkFailed(LinkFault::Lost));
    assert_eq!(writes(&outputs), 0);
}

#[test]
fn inputs_out_of_turn_are_refused_and_change_nothing() {
    let (mut session, mut terminal, _) = after_offer(settings(), &offer());
    assert_eq!(session.handle(at(20), Input::Stored), Err(InputRefusal::NothingStored));
    let reserved = Input::Reserved(Reservation::Counter(9));
    assert_eq!(session.handle(at(20), reserved), Err(InputRefusal::NothingStored));
    session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
    let again = session.handle(at(20), Input::Decided(Decision::Pay));
    assert_eq!(again, Err(InputRefusal::NoDecisionAwaited));
    assert_eq!(session.handle(at(20), Input::Stored), Err(InputRefusal::NothingStored));
    let working = terminal.say(&FromTerminal::Working).remove(0);
    assert_eq!(session.handle(at(20), Input::Value(working)), Err(InputRefusal::StoreFirst));
    session.handle(at(21), Input::Reserved(Reservation::Counter(3))).unwrap();
    let outputs = session.handle(at(22), Input::Stored).unwrap();
    assert_eq!(terminal.open(&outputs).len(), 1);
    assert_eq!(session.handle(at(23), Input::Stored), Err(InputRefusal::NothingStored));
}

#[test]
fn notifications_for_other_phones_are_ignored() {
    let mut terminal = Terminal::new();
    let mut other_terminal = Terminal::new();
    let (mut session, hello) = Session::pay(card(), settings(), seed(1), at(0)).unwrap();
    let (_, other_hello) = Session::pay(card(), settings(), seed(100), at(0)).unwrap();
    let signed = certificate().sign(&certificate_key());
    let first = || FromTerminal::Offer(encode_offer(&offer()));
    let theirs = other_terminal.answer(&other_hello, &channel_key(), &signed, first());
    let retagged = |values: &[Vec<u8>]| -> Vec<Vec<u8>> {
        values
            .iter()
            .cloned()
            .map(|mut value| {
                value[0] ^= 0x01;
                value
            })
            .collect()
    };
    // With another tag, any number, in the middle of our own message.
    let mine = terminal.answer(&hello, &channel_key(), &signed, first());
    let mut outputs = Vec::new();
    for value in mine {
        for _ in 0..20 {
            assert_eq!(give(&mut session, at(10), retagged(&theirs)), []);
        }
        outputs.extend(give(&mut session, at(10), vec![value]));
    }
    asked(&outputs);
    // With our tag: some are dropped, then the session gives up, without a word about money.
    let signs = other_terminal.say(&FromTerminal::Working);
    for _ in 0..UNREADABLE_MAX {
        assert_eq!(give(&mut session, at(11), signs.clone()), []);
    }
    let outputs = give(&mut session, at(11), signs.clone());
    assert_eq!(end_of(&outputs), &SessionEnd::LinkFailed(LinkFault::Unreadable));
    // After a command the same leaves the payment open.
    let (mut session, _, _) = after_command();
    let outputs = give(&mut session, at(30), vec![signs[0].clone(); UNREADABLE_MAX as usize + 1]);
    assert_eq!(end_of(&outputs), &SessionEnd::Pending(PendingReason::Unreadable));
}

#[test]
fn a_message_that_breaks_off_costs_the_next_one_nothing() {
    let mut terminal = Terminal::new();
    let (mut session, hello) = Session::pay(card(), settings(), seed(1), at(0)).unwrap();
    let first = FromTerminal::Offer(encode_offer(&offer()));
    let signed = certificate().sign(&certificate_key());
    let mine = terminal.answer(&hello, &channel_key(), &signed, first);
    // The beginning of another phone's answer, with the same tag; the rest of it never comes.
    assert!(mine.len() > 1);
    assert_eq!(give(&mut session, at(10), vec![mine[0].clone()]), []);
    asked(&give(&mut session, at(10), mine));
}

#[test]
fn neither_debug_nor_words_hold_keys_or_card_identifiers() {
    let full_id = card_id().to_full_text();
    let key_pem = card_key().to_pem().unwrap();
    let secret_line = key_pem.lines().nth(1).unwrap().to_owned();
    let (session, _, _) = after_offer(settings(), &offer());
    let (waiting, _, _) = after_command();
    let texts = [
        format!("{session:?}"),
        format!("{waiting:?}"),
        format!("{:?}", card()),
        format!("{:?}", seed(0xcd)),
        format!("{:?}", earlier_record()),
        earlier_record().to_json(),
        SessionEnd::Settled(receipt()).message(),
        format!("{:?}", SessionEnd::Settled(receipt())),
    ];
    let scalar_as_list = "4, 4, 4, 4";
    for text in texts {
        assert!(!text.contains(&full_id), "{text}");
        assert!(!text.contains(&secret_line), "{text}");
        assert!(!text.contains(scalar_as_list), "{text}");
        assert!(!text.contains("171, 171"), "{text}");
        // The seeds of the sessions and of the sealing.
        for seed in ["1, 1, 1", "2, 2, 2", "205, 205"] {
            assert!(!text.contains(seed), "{text}");
        }
    }
}

/// The amount was taken, and so much of it given back later.
fn captured(refunded_minor: u64) -> Receipt {
    let status = ReceiptStatus::Captured { approval_code: "123456".into(), refunded_minor };
    Receipt { status, ..receipt() }
}

fn reserving_offer() -> Offer {
    offer_with(|parts| parts.capture_after_dispense = true)
}

/// A session that pays an offer whose amount is taken after the goods were released, and stays.
/// Returns its command's digest, too.
fn after_reserving_command(stay_ms: u64) -> (Session, Terminal, PaymentRecord) {
    let settings = SessionSettings { stay_ms, ..settings() };
    let (mut session, mut terminal, _) = after_offer(settings, &reserving_offer());
    session.handle(at(20), Input::Decided(Decision::Pay)).unwrap();
    let reserved = Input::Reserved(Reservation::Counter(3));
    let record = stored(&session.handle(at(21), reserved).unwrap());
    let outputs = session.handle(at(22), Input::Stored).unwrap();
    terminal.open(&outputs);
    (session, terminal, record)
}

fn receipt_of(record: &PaymentRecord, status: ReceiptStatus) -> Receipt {
    Receipt {
        offer_digest: record.offer_digest(),
        command_digest: record.command_digest(),
        status,
        ..receipt()
    }
}

fn result(outcome: Outcome, receipt: &Receipt) -> FromTerminal {
    let receipt = Some(signed_receipt(receipt));
    FromTerminal::Result { transaction_id: transaction_id(), outcome, receipt }
}

#[test]
fn the_wallet_stays_until_a_reserved_amount_was_taken_or_given_back() {
    let approved = || ReceiptStatus::Approved { approval_code: "123456".into() };
    let captured = || ReceiptStatus::Captured { approval_code: "123456".into(), refunded_minor: 0 };
    for (outcome, status, standing) in [
        (Outcome::Captured, captured(), "paid"),
        (Outcome::Reversed, ReceiptStatus::Reversed, "given_back"),
    ] {
        let (mut session, mut terminal, record) = after_reserving_command(30_000);
        let approval = receipt_of(&record, approved());
        let values = terminal.say(&result(Outcome::Approved, &approval));
        let outputs = give(&mut session, at(100), values);
        assert_eq!(stored(&outputs).standing(), "reserved");
        assert!(outputs.contains(&Output::Tell(Notice::Reserved(Box::new(approval.clone())))));
        let outputs = session.handle(at(101), Input::Stored).unwrap();
        assert_eq!(terminal.open(&outputs), [FromPhone::ReceiptAck]);
        assert_eq!(session.deadline(), Some(at(30_100)));
        // The approval again is no news.
        let values = terminal.say(&result(Outcome::Approved, &approval));
        assert_eq!(writes(&give(&mut session, at(200), values)), 0);
        let last = receipt_of(&record, status);
        let values = terminal.say(&result(outcome, &last));
        let outputs = give(&mut session, at(20_000), values);
        assert_eq!(stored(&outputs).standing(), standing);
        let outputs = session.handle(at(20_001), Input::Stored).unwrap();
        assert_eq!(terminal.open(&outputs), [FromPhone::ReceiptAck]);
        assert_eq!(end_of(&outputs), &SessionEnd::Settled(last));
    }

    // It stays for a bounded time, and a link that goes takes nothing back.
    for input in [Input::Tick, Input::LinkLost] {
        let (mut session, mut terminal, record) = after_reserving_command(30_000);
        let approval = receipt_of(&record, approved());
        let values = terminal.say(&result(Outcome::Approved, &approval));
        give(&mut session, at(100), values);
        session.handle(at(101), Input::Stored).unwrap();
        let outputs = session.handle(at(30_100), input).unwrap();
        assert_eq!(end_of(&outputs), &SessionEnd::Reserved(approval));
    }

    // Without a stay, the reservation is the end.
    let (mut session, mut terminal, record) = after_reserving_command(0);
    let approval = receipt_of(&record, approved());
    let values = terminal.say(&result(Outcome::Approved, &approval));
    give(&mut session, at(100), values);
    let outputs = session.handle(at(101), Input::Stored).unwrap();
    assert_eq!(end_of(&outputs), &SessionEnd::Reserved(approval));
}

#[test]
fn what_was_given_back_later_is_told() {
    let end = SessionEnd::Settled(captured(50));
    assert_eq!(end.message(), "Paid 2.50 EUR; 0.50 EUR of it was given back.");
    assert_eq!(SessionEnd::Settled(captured(0)).message(), "Paid 2.50 EUR.");
}

/// A keyring that was issued a second after the card's, in which this key signs certificates.
fn newer_keyring(certificate_key: &crate::credential::SigningKey) -> Signed {
    let mut keyring = card().keyring().clone();
    keyring.issued_at = later(1);
    keyring.keys[0].public_key = certificate_key.verifying_key().to_sec1();
    keyring.sign(&root_key())
}

fn stores_keyring(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::StoreKeyring(_)))
}

#[test]
fn the_first_message_opens_the_commitment_and_tells_the_keyrings_age() {
    let (_, terminal, _) = after_offer(settings(), &offer());
    let opening =
        FromPhone::Opening { matching_nonce: seed(1).matching_nonce, keyring_issued_at: NOW };
    assert_eq!(terminal.opening, Some(opening));
}

#[test]
fn a_certificate_of_a_new_key_waits_for_the_newer_keyring() {
    let first = || FromTerminal::Offer(encode_offer(&offer()));
    let certificate = certificate().sign(&key(12));
    let start = || after_answer_with(settings(), &channel_key(), &certificate, first());
    let (mut session, mut terminal, _) = start();
    assert!(terminal.opening.is_some());
    assert_eq!(session.deadline(), Some(at(10 + KEYRING_MS_MAX)));
    let values = terminal.say(&FromTerminal::Keyring(newer_keyring(&key(12)).encode()));
    let outputs = give(&mut session, at(20), values);
    assert!(stores_keyring(&outputs));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Ask(_))), "not yet on the disk");
    let outputs = session.handle(at(21), Input::Stored).unwrap();
    assert_eq!(asked(&outputs).offer, offer());

    // Without it, with one that is no newer, or not signed by the root: refused.
    let outdated = card().signed_keyring().encode();
    let mut forged = card().keyring().clone();
    forged.issued_at = later(1);
    for keyring in [None, Some(outdated), Some(forged.sign(&key(77)).encode()), Some(vec![1])] {
        let (mut session, mut terminal, _) = start();
        if let Some(keyring) = keyring {
            let values = terminal.say(&FromTerminal::Keyring(keyring));
            assert!(!stores_keyring(&give(&mut session, at(20), values)));
        }
        let outputs = session.handle(at(10 + KEYRING_MS_MAX), Input::Tick).unwrap();
        assert!(matches!(end_of(&outputs), SessionEnd::Refused(Refusal::Certificate(_))));
    }
    // A newer one that lacks the key as well, or that cannot be stored.
    for (keyring, input) in
        [(newer_keyring(&key(13)), Input::Stored), (newer_keyring(&key(12)), Input::StoreFailed)]
    {
        let (mut session, mut terminal, _) = start();
        let values = terminal.say(&FromTerminal::Keyring(keyring.encode()));
        give(&mut session, at(20), values);
        let outputs = session.handle(at(21), input).unwrap();
        assert!(matches!(end_of(&outputs), SessionEnd::Refused(Refusal::Certificate(_))));
    }
}

#[test]
fn a_newer_keyring_revokes_the_key_of_an_accepted_certificate() {
    let (mut session, mut terminal, outputs) = after_offer(settings(), &offer());
    asked(&outputs);
    let values = terminal.say(&FromTerminal::Keyring(newer_keyring(&key(12)).encode()));
    assert!(stores_keyring(&give(&mut session, at(20), values)));
    let outputs = session.handle(at(21), Input::Stored).unwrap();
    assert!(matches!(end_of(&outputs), SessionEnd::Refused(Refusal::Certificate(_))));

    // One that still has it changes nothing for the person.
    let (mut session, mut terminal, _) = after_offer(settings(), &offer());
    let values = terminal.say(&FromTerminal::Keyring(newer_keyring(&key(2)).encode()));
    give(&mut session, at(20), values);
    assert_eq!(session.handle(at(21), Input::Stored).unwrap(), []);
    session.handle(at(22), Input::Decided(Decision::Pay)).unwrap();
}

/// What may happen to a session, in any order.
#[derive(Debug, Clone)]
enum Happening {
    Octets(Vec<u8>),
    Tagged(Vec<u8>),
    Said(u8),
    Decide(bool),
    Reserve(u64),
    Stored,
    StoreFailed,
    LinkLost,
    Tick(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let octets = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        2 => octets().prop_map(Happening::Octets),
        2 => octets().prop_map(Happening::Tagged),
        8 => (0u8..17).prop_map(Happening::Said),
        3 => any::<bool>().prop_map(Happening::Decide),
        3 => (1u64..100).prop_map(Happening::Reserve),
        4 => Just(Happening::Stored),
        1 => Just(Happening::StoreFailed),
        1 => Just(Happening::LinkLost),
        2 => (0u64..8000).prop_map(Happening::Tick),
    ]
}

fn said(number: u8) -> FromTerminal {
    let id = transaction_id();
    let result = |outcome, receipt| FromTerminal::Result { transaction_id: id, outcome, receipt };
    match number {
        0 => FromTerminal::Offer(encode_offer(&offer())),
        1 => FromTerminal::Offer(vec![1]),
        2 => FromTerminal::NothingToPay,
        3 => FromTerminal::Working,
        4 => result(Outcome::Approved, Some(signed_receipt(&receipt()))),
        5 => result(Outcome::Approved, Some(vec![1])),
        6 => result(Outcome::Pending, None),
        7 => result(Outcome::Reversed, None),
        13 => not_used(&exclusion(None)),
        14 => result(Outcome::Captured, Some(signed_receipt(&captured(0)))),
        15 => FromTerminal::Keyring(newer_keyring(&key(2)).encode()),
        8 => FromTerminal::Taken(id),
        9 => FromTerminal::Withdrawn(id),
        10 => FromTerminal::Expired(id),
        11 => FromTerminal::Error(ProtocolError::new(WireError::Busy, "x")),
        12 => FromTerminal::Error(ProtocolError::new(WireError::InstitutionUnreachable, "x")),
        _ => FromTerminal::Taken(TransactionId::from_random([1; 16])),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_there_is_one_command_at_most_and_only_after_it_was_stored(
        first in prop::sample::select(vec![0u8, 0, 0, 2, 11]),
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let signed = certificate().sign(&certificate_key());
        let (mut session, mut terminal, outputs) =
            after_answer_with(settings(), &channel_key(), &signed, said(first));
        let mut now = 10;
        let mut consented = false;
        let mut is_stored = false;
        let mut commands = 0;
        let mut ends = usize::from(outputs.iter().any(|output| matches!(output, Output::End(_))));
        for happening in happenings {
            let inputs = match happening {
                Happening::Octets(octets) => vec![Input::Value(octets)],
                Happening::Tagged(mut octets) => {
                    if let Some(header) = octets.first_mut() {
                        *header = *header & 0xf0 | TAG;
                    }
                    vec![Input::Value(octets)]
                }
                Happening::Said(number) => {
                    terminal.say(&said(number)).into_iter().map(Input::Value).collect()
                }
                Happening::Decide(pay) =>
                    vec![Input::Decided(if pay { Decision::Pay } else { Decision::Decline })],
                Happening::Reserve(counter) => vec![Input::Reserved(Reservation::Counter(counter))],
                Happening::Stored => vec![Input::Stored],
                Happening::StoreFailed => vec![Input::StoreFailed],
                Happening::LinkLost => vec![Input::LinkLost],
                Happening::Tick(milliseconds) => {
                    now += milliseconds;
                    vec![Input::Tick]
                }
            };
            for input in inputs {
                let says_pay = matches!(input, Input::Decided(Decision::Pay));
                let says_stored = matches!(input, Input::Stored);
                let Ok(outputs) = session.handle(at(now), input) else { continue };
                consented |= says_pay;
                is_stored |= says_stored;
                prop_assert!(ends == 0 || outputs.is_empty(), "after the end: {outputs:?}");
                for message in terminal.open(&outputs) {
                    if matches!(message, FromPhone::PaymentCommand { .. }) {
                        commands += 1;
                        prop_assert!(consented && is_stored);
                    }
                }
                for output in &outputs {
                    if let Output::End(end) = output {
                        ends += 1;
                        if let SessionEnd::NotPaid(_)
                        | SessionEnd::Refused(_)
                        | SessionEnd::LinkFailed(_) = **end
                        {
                            prop_assert_eq!(commands, 0, "the end denies a command that was sent");
                        }
                    }
                }
            }
        }
        prop_assert!(commands <= 1);
        prop_assert!(ends <= 1);
    }

    #[test]
    fn any_octets_before_the_answer_are_ignored_or_end_the_attempt(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..30),
    ) {
        let (mut session, _) = Session::pay(card(), settings(), seed(1), at(0)).unwrap();
        for mut value in values {
            if let Some(header) = value.first_mut() {
                *header = *header & 0xf0 | TAG;
            }
            let Ok(outputs) = session.handle(at(1), Input::Value(value)) else { continue };
            prop_assert_eq!(writes(&outputs), 0);
            let is_act = |output: &Output| matches!(output, Output::Ask(_) | Output::Store { .. });
            let acts = outputs.iter().any(is_act);
            prop_assert!(!acts);
        }
    }
}
