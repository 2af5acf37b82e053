//! The session's stages, and how each stage handles an event.

use std::sync::Arc;

use super::check::{self, check_card, check_offer, check_result, check_terminal};
use super::exchange::{
    Decision, Input, InputRefusal, Notice, OfferView, Output, Reservation, SessionSeed,
    SessionSettings,
};
use super::line::{Line, Reading};
use crate::credential::{CardCommand, TerminalCertificate};
use crate::domain::{Moment, Offer, Outcome, ReceiptStatus, TransactionId};
use crate::protocol::{FromPhone, FromTerminal, Hello, ProtocolError, WireError};
use crate::wallet::{
    Card, LinkFault, NotCharged, NotPaid, PaymentRecord, PaymentStatus, PendingReason,
    ReceiptFault, Refusal, SessionEnd,
};

/// How long the answer to the hello may take, in milliseconds. The terminal has it ready; the
/// slowest connection (MTU 23, an interval of 100 ms) carries it in 4 s.
pub(super) const ANSWER_MS_MAX: u64 = 6_000;
/// How long the terminal may be quiet while it works on a command, in milliseconds
/// (docs/protocol.md, section 8): it speaks every 2 s.
pub(super) const QUIET_MS_MAX: u64 = 10_000;
/// How long a result may take with signs of life, in milliseconds. A terminal gives up on the
/// institution sooner.
pub(super) const RESULT_MS_MAX: u64 = 60_000;
/// How long to stay for the end after the terminal said that it is pending, in milliseconds. A
/// person does not stand there longer; the result can be asked for later.
pub(super) const PENDING_MS_MAX: u64 = 10_000;

/// Whether a session pays or asks.
#[derive(Debug)]
enum Purpose {
    Pay,
    Ask(Box<PaymentRecord>),
}

/// An offer that passed every check.
#[derive(Debug)]
struct CheckedOffer {
    octets: Vec<u8>,
    offer: Offer,
}

/// Waiting for the result of a command.
#[derive(Debug)]
struct Waiting {
    record: Box<PaymentRecord>,
    /// The terminal has to send something by then.
    quiet_until: Moment,
    /// The result has to be here by then.
    until: Moment,
    is_pending: bool,
}

#[derive(Debug)]
enum Stage {
    AwaitingAnswer { purpose: Purpose, until: Moment },
    AwaitingOffer { certificate: Box<TerminalCertificate>, until: Moment },
    AwaitingDecision { checked: Box<CheckedOffer>, until: Moment },
    AwaitingReservation { checked: Box<CheckedOffer> },
    AwaitingStore { record: Box<PaymentRecord> },
    AwaitingResult(Waiting),
    AwaitingLastStore { end: Box<SessionEnd>, acknowledge: bool },
    Ended,
}

/// What an input means, after decryption.
#[derive(Debug)]
enum Event {
    Answer {
        terminal_key: [u8; 32],
        certificate: Vec<u8>,
        first: FromTerminal,
    },
    Message(FromTerminal),
    /// The message could be decrypted, and not decoded.
    Malformed(ProtocolError),
    PlainError(ProtocolError),
    /// One message too many could not be read.
    Unreadable,
    Decided(Decision),
    Reserved(Reservation),
    Stored,
    StoreFailed,
    LinkLost,
    Tick,
}

type Step = (Stage, Vec<Output>);

/// One conversation, which cannot be used again. It prints neither seed nor keys.
pub struct Session {
    card: Arc<Card>,
    settings: SessionSettings,
    sealing_seed: [u8; 32],
    line: Line,
    stage: Stage,
}

impl Session {
    /// Starts a payment. The outputs hold the hello.
    ///
    /// # Errors
    /// [`Refusal`] if the card cannot pay now.
    pub fn pay(
        card: Arc<Card>,
        settings: SessionSettings,
        seed: SessionSeed,
        now: Moment,
    ) -> Result<(Self, Vec<Output>), Refusal> {
        check_card(&card, settings.wall_clock)?;
        let transaction_id = settings.link.as_ref().and_then(|link| link.transaction_id);
        Ok(Self::start(card, settings, seed, now, Purpose::Pay, transaction_id))
    }

    /// Starts a question for the result of an earlier command. The outputs hold the hello.
    pub fn ask(
        card: Arc<Card>,
        record: PaymentRecord,
        settings: SessionSettings,
        seed: SessionSeed,
        now: Moment,
    ) -> (Self, Vec<Output>) {
        let transaction_id = record.transaction_id();
        Self::start(card, settings, seed, now, Purpose::Ask(Box::new(record)), Some(transaction_id))
    }

    fn start(
        card: Arc<Card>,
        settings: SessionSettings,
        seed: SessionSeed,
        now: Moment,
        purpose: Purpose,
        transaction_id: Option<TransactionId>,
    ) -> (Self, Vec<Output>) {
        let value_octets_max = u32::try_from(settings.value_octets_max).ok();
        let SessionSeed { tag, ephemeral, sealing, matching_nonce } = seed;
        let matching_commitment = matching_nonce.commitment();
        let hello = Hello { value_octets_max, transaction_id, matching_commitment };
        let (line, outputs) =
            Line::open(&hello, tag, ephemeral, matching_nonce, settings.value_octets_max);
        let stage = Stage::AwaitingAnswer { purpose, until: now.plus_ms(ANSWER_MS_MAX) };
        (Self { card, settings, sealing_seed: sealing, line, stage }, outputs)
    }

    /// When [`Input::Tick`] is due, if nothing else happens before; none while only the store is
    /// waited for.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.stage {
            Stage::AwaitingAnswer { until, .. }
            | Stage::AwaitingOffer { until, .. }
            | Stage::AwaitingDecision { until, .. } => Some(*until),
            Stage::AwaitingResult(waiting) => Some(waiting.quiet_until.min(waiting.until)),
            Stage::AwaitingReservation { .. }
            | Stage::AwaitingStore { .. }
            | Stage::AwaitingLastStore { .. }
            | Stage::Ended => None,
        }
    }

    /// Takes an input, and returns what to do.
    ///
    /// # Errors
    /// [`InputRefusal`] for an input that does not belong here; the session is then as before. What
    /// the other side sends is never an error of this function: it is ignored, or ends the
    /// session with a reason.
    pub fn handle(&mut self, now: Moment, input: Input) -> Result<Vec<Output>, InputRefusal> {
        self.check_input(&input)?;
        let mut outputs = Vec::new();
        let event = match input {
            Input::Value(value) => match self.line.read(&value) {
                Reading::Nothing => return Ok(outputs),
                Reading::Answer { terminal_key, answer, octets } => {
                    outputs.push(heard(&answer.first, octets));
                    Event::Answer {
                        terminal_key,
                        certificate: answer.certificate,
                        first: answer.first,
                    }
                }
                Reading::Message { message, octets } => {
                    outputs.push(heard(&message, octets));
                    Event::Message(message)
                }
                Reading::Malformed(error) => Event::Malformed(error),
                Reading::PlainError { error, octets } => {
                    outputs.push(Output::Tell(Notice::MessageReceived {
                        message: "plain_error",
                        octets,
                    }));
                    Event::PlainError(error)
                }
                Reading::TooManyUnreadable => Event::Unreadable,
            },
            Input::Decided(decision) => Event::Decided(decision),
            Input::Reserved(reservation) => Event::Reserved(reservation),
            Input::Stored => Event::Stored,
            Input::StoreFailed => Event::StoreFailed,
            Input::LinkLost => Event::LinkLost,
            Input::Tick if self.deadline().is_some_and(|deadline| now >= deadline) => Event::Tick,
            Input::Tick => return Ok(outputs),
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let (stage, more) = self.step(now, stage, event);
        self.stage = stage;
        outputs.extend(more);
        Ok(outputs)
    }

    /// Refuses an input that the stage does not expect.
    fn check_input(&self, input: &Input) -> Result<(), InputRefusal> {
        let stores = match &self.stage {
            Stage::Ended => return Err(InputRefusal::Ended),
            Stage::AwaitingReservation { .. }
            | Stage::AwaitingStore { .. }
            | Stage::AwaitingLastStore { .. } => true,
            Stage::AwaitingAnswer { .. }
            | Stage::AwaitingOffer { .. }
            | Stage::AwaitingDecision { .. }
            | Stage::AwaitingResult(_) => false,
        };
        let reserves = matches!(self.stage, Stage::AwaitingReservation { .. });
        let asks = matches!(self.stage, Stage::AwaitingDecision { .. });
        match input {
            Input::Value(_) if stores => Err(InputRefusal::StoreFirst),
            Input::Decided(_) if !asks => Err(InputRefusal::NoDecisionAwaited),
            Input::Reserved(_) if !reserves => Err(InputRefusal::NothingStored),
            Input::Stored if !stores || reserves => Err(InputRefusal::NothingStored),
            Input::StoreFailed if !stores => Err(InputRefusal::NothingStored),
            Input::Value(_)
            | Input::Decided(_)
            | Input::Reserved(_)
            | Input::Stored
            | Input::StoreFailed
            | Input::LinkLost
            | Input::Tick => Ok(()),
        }
    }

    /// What an event means at each stage. Whatever cannot happen there was refused before, or the
    /// line does not yield it.
    fn step(&mut self, now: Moment, stage: Stage, event: Event) -> Step {
        match stage {
            Stage::AwaitingAnswer { .. }
            | Stage::AwaitingOffer { .. }
            | Stage::AwaitingDecision { .. } => self.before_consent(now, stage, event),
            Stage::AwaitingReservation { .. } | Stage::AwaitingStore { .. } => {
                self.before_the_command(now, stage, event)
            }
            Stage::AwaitingResult(waiting) => self.after_the_command(now, waiting, event),
            Stage::AwaitingLastStore { end: last, acknowledge } => {
                self.before_the_end(last, acknowledge, event)
            }
            Stage::Ended => impossible(stage, &event),
        }
    }

    fn before_consent(&mut self, now: Moment, stage: Stage, event: Event) -> Step {
        match (stage, event) {
            (
                Stage::AwaitingAnswer { purpose, .. },
                Event::Answer { terminal_key, certificate, first },
            ) => self.answered(now, purpose, &terminal_key, &certificate, first),
            (Stage::AwaitingAnswer { .. }, Event::Tick) => {
                end(SessionEnd::LinkFailed(LinkFault::NoAnswer))
            }
            (Stage::AwaitingOffer { certificate, until }, Event::Message(message)) => {
                self.offered(now, certificate, until, message)
            }
            (Stage::AwaitingOffer { .. }, Event::Tick) => {
                end(SessionEnd::NotPaid(NotPaid::NothingToPay))
            }
            (Stage::AwaitingDecision { checked, until }, Event::Message(message)) => {
                Self::told_while_deciding(checked, until, message)
            }
            (Stage::AwaitingDecision { checked, .. }, Event::Decided(Decision::Pay)) => {
                let transaction_id = checked.offer.transaction_id();
                (Stage::AwaitingReservation { checked }, vec![Output::Reserve(transaction_id)])
            }
            (Stage::AwaitingDecision { .. }, Event::Decided(Decision::Decline)) => {
                self.cancel(SessionEnd::NotPaid(NotPaid::Declined))
            }
            (Stage::AwaitingDecision { .. }, Event::Tick) => {
                self.cancel(SessionEnd::NotPaid(NotPaid::DecidedTooLate))
            }
            (_, Event::LinkLost) => end(SessionEnd::LinkFailed(LinkFault::Lost)),
            (_, Event::Unreadable) => end(SessionEnd::LinkFailed(LinkFault::Unreadable)),
            (_, Event::Malformed(error)) => {
                end(SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(error)))
            }
            (_, Event::PlainError(error)) => {
                end(SessionEnd::NotPaid(NotPaid::Terminal(error.wire)))
            }
            (
                stage,
                event @ (Event::Answer { .. }
                | Event::Message(_)
                | Event::Decided(_)
                | Event::Reserved(_)
                | Event::Stored
                | Event::StoreFailed
                | Event::Tick),
            ) => impossible(stage, &event),
        }
    }

    fn before_the_command(&mut self, now: Moment, stage: Stage, event: Event) -> Step {
        match (stage, event) {
            (Stage::AwaitingReservation { checked }, Event::Reserved(reservation)) => {
                self.reserved(*checked, reservation)
            }
            (Stage::AwaitingReservation { .. }, Event::LinkLost) => {
                end(SessionEnd::LinkFailed(LinkFault::Lost))
            }
            (Stage::AwaitingStore { record }, Event::Stored) => self.send_command(now, record),
            (Stage::AwaitingStore { mut record }, Event::LinkLost) => {
                record.status = PaymentStatus::NotSent;
                self.store_and_end(record, SessionEnd::LinkFailed(LinkFault::Lost), false)
            }
            (_, Event::StoreFailed) => end(SessionEnd::StoreFailed),
            (
                stage,
                event @ (Event::Answer { .. }
                | Event::Message(_)
                | Event::Malformed(_)
                | Event::PlainError(_)
                | Event::Unreadable
                | Event::Decided(_)
                | Event::Reserved(_)
                | Event::Stored
                | Event::LinkLost
                | Event::Tick),
            ) => impossible(stage, &event),
        }
    }

    /// The command is sent: only the institution's answer, through the terminal, settles it.
    fn after_the_command(&mut self, now: Moment, waiting: Waiting, event: Event) -> Step {
        let without_an_answer = |reason| {
            let reason = if waiting.is_pending { PendingReason::Institution } else { reason };
            end(SessionEnd::Pending(reason))
        };
        match event {
            Event::Message(message) => self.told_while_waiting(now, waiting, message),
            Event::Malformed(_) if !self.line.count_unreadable() => {
                (Stage::AwaitingResult(waiting), Vec::new())
            }
            Event::Malformed(_) | Event::Unreadable => {
                end(SessionEnd::Pending(PendingReason::Unreadable))
            }
            // In the clear, so anybody's: it never ends a payment.
            Event::PlainError(_) => (Stage::AwaitingResult(waiting), Vec::new()),
            Event::Tick if now >= waiting.until => without_an_answer(PendingReason::TookTooLong),
            Event::Tick => without_an_answer(PendingReason::NoSignOfLife),
            Event::LinkLost => without_an_answer(PendingReason::LinkLost),
            Event::Answer { .. }
            | Event::Decided(_)
            | Event::Reserved(_)
            | Event::Stored
            | Event::StoreFailed => impossible(Stage::AwaitingResult(waiting), &event),
        }
    }

    fn before_the_end(&mut self, last: Box<SessionEnd>, acknowledge: bool, event: Event) -> Step {
        match event {
            Event::Stored => {
                // The last message; whether it can be sent changes nothing.
                let acknowledgement = if acknowledge {
                    self.line.say(&FromPhone::ReceiptAck).unwrap_or_default()
                } else {
                    Vec::new()
                };
                let (stage, ending) = end(*last);
                (stage, acknowledgement.into_iter().chain(ending).collect())
            }
            // The end is the end, also where it could not be stored or the link is gone meanwhile.
            Event::StoreFailed | Event::LinkLost => end(*last),
            Event::Answer { .. }
            | Event::Message(_)
            | Event::Malformed(_)
            | Event::PlainError(_)
            | Event::Unreadable
            | Event::Decided(_)
            | Event::Reserved(_)
            | Event::Tick => {
                impossible(Stage::AwaitingLastStore { end: last, acknowledge }, &event)
            }
        }
    }

    fn answered(
        &mut self,
        now: Moment,
        purpose: Purpose,
        terminal_key: &[u8; 32],
        certificate: &[u8],
        first: FromTerminal,
    ) -> Step {
        let expected_terminal = match &purpose {
            Purpose::Ask(record) => Some(record.offer().terminal_id()),
            Purpose::Pay => None,
        };
        let certificate = match check_terminal(
            certificate,
            terminal_key,
            expected_terminal,
            &self.settings,
            self.card.keyring(),
        ) {
            Ok(certificate) => Box::new(certificate),
            Err(refusal) => return end(SessionEnd::Refused(refusal)),
        };
        let opening = FromPhone::Opening {
            matching_nonce: self.line.matching_nonce(),
            keyring_issued_at: self.card.keyring().issued_at,
        };
        let mut outputs = self.line.say(&opening).unwrap_or_default();
        let (stage, more) = self.opened(now, purpose, certificate, first);
        outputs.extend(more);
        (stage, outputs)
    }

    fn opened(
        &mut self,
        now: Moment,
        purpose: Purpose,
        certificate: Box<TerminalCertificate>,
        first: FromTerminal,
    ) -> Step {
        match purpose {
            Purpose::Pay => {
                let until = now.plus_ms(self.settings.offer_wait_ms);
                self.offered(now, certificate, until, first)
            }
            // The terminal's present offer does not matter here.
            Purpose::Ask(record) => {
                let query = FromPhone::ResultQuery {
                    transaction_id: record.transaction_id(),
                    command_digest: record.command_digest(),
                };
                match self.line.say(&query) {
                    Ok(outputs) => (Stage::AwaitingResult(Waiting::from(now, record)), outputs),
                    Err(error) => end(SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(error))),
                }
            }
        }
    }

    /// Handles the terminal's first message, or a later one while there is no offer.
    fn offered(
        &mut self,
        now: Moment,
        certificate: Box<TerminalCertificate>,
        until: Moment,
        message: FromTerminal,
    ) -> Step {
        match message {
            FromTerminal::Offer(octets) => {
                match check_offer(&octets, &certificate, &self.settings, &self.card) {
                    Ok(offer) => {
                        let until =
                            now.plus_ms(u64::from(offer.valid_for_s()).saturating_mul(1000));
                        let view = OfferView {
                            offer: offer.clone(),
                            matching_code: self.line.matching_code(),
                        };
                        let checked = Box::new(CheckedOffer { octets, offer });
                        (
                            Stage::AwaitingDecision { checked, until },
                            vec![Output::Ask(Box::new(view))],
                        )
                    }
                    Err(check::OfferFault::Refused(refusal)) => {
                        self.cancel(SessionEnd::Refused(refusal))
                    }
                    Err(check::OfferFault::Malformed(error)) => {
                        end(SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(error)))
                    }
                }
            }
            FromTerminal::NothingToPay => (
                Stage::AwaitingOffer { certificate, until },
                vec![Output::Tell(Notice::NothingToPay)],
            ),
            FromTerminal::Taken(_) => end(SessionEnd::NotPaid(NotPaid::Taken)),
            FromTerminal::Withdrawn(_) => end(SessionEnd::NotPaid(NotPaid::Withdrawn)),
            FromTerminal::Expired(_) => end(SessionEnd::NotPaid(NotPaid::Expired)),
            FromTerminal::Error(error) => end(SessionEnd::NotPaid(NotPaid::Terminal(error.wire))),
            FromTerminal::Keyring(_) => (Stage::AwaitingOffer { certificate, until }, Vec::new()),
            FromTerminal::Working | FromTerminal::Result { .. } | FromTerminal::NotUsed { .. } => {
                end(unexpected("before a command"))
            }
        }
    }

    fn told_while_deciding(
        checked: Box<CheckedOffer>,
        until: Moment,
        message: FromTerminal,
    ) -> Step {
        let mine = checked.offer.transaction_id();
        match message {
            FromTerminal::Taken(id) if id == mine => end(SessionEnd::NotPaid(NotPaid::Taken)),
            FromTerminal::Withdrawn(id) if id == mine => {
                end(SessionEnd::NotPaid(NotPaid::Withdrawn))
            }
            FromTerminal::Expired(id) if id == mine => end(SessionEnd::NotPaid(NotPaid::Expired)),
            FromTerminal::Error(error) => end(SessionEnd::NotPaid(NotPaid::Terminal(error.wire))),
            // About another payment: none of this wallet's business.
            FromTerminal::Taken(_)
            | FromTerminal::Withdrawn(_)
            | FromTerminal::Expired(_)
            | FromTerminal::Keyring(_) => (Stage::AwaitingDecision { checked, until }, Vec::new()),
            // Nobody exchanges what the person is looking at.
            FromTerminal::Offer(_)
            | FromTerminal::NothingToPay
            | FromTerminal::Working
            | FromTerminal::NotUsed { .. }
            | FromTerminal::Result { .. } => end(unexpected("while an offer is shown")),
        }
    }

    fn reserved(&mut self, checked: CheckedOffer, reservation: Reservation) -> Step {
        let counter = match reservation {
            Reservation::Counter(counter) => counter,
            Reservation::Earlier(mut record) => {
                match record.status {
                    PaymentStatus::Approved | PaymentStatus::Declined | PaymentStatus::Reversed => {
                        return self.cancel(SessionEnd::Refused(Refusal::AlreadySettled));
                    }
                    PaymentStatus::Pending
                    | PaymentStatus::NotSent
                    | PaymentStatus::NotCharged
                    | PaymentStatus::NotProven => {}
                }
                if record.offer_digest() != crate::protocol::digest_offer(&checked.octets)
                    || record.card_name() != self.card.name()
                {
                    return self.cancel(SessionEnd::Refused(Refusal::OfferChanged));
                }
                // The same command again, never a second one: whichever arrives, it is one order.
                record.status = PaymentStatus::Pending;
                record.updated_at = self.settings.wall_clock;
                let outputs = vec![Output::Store { record: record.clone(), is_new: false }];
                return (Stage::AwaitingStore { record }, outputs);
            }
        };
        match self.make_command(&checked, counter) {
            Ok(record) => {
                let record = Box::new(record);
                let outputs = vec![Output::Store { record: record.clone(), is_new: true }];
                (Stage::AwaitingStore { record }, outputs)
            }
            Err(last) => self.cancel(*last),
        }
    }

    fn make_command(
        &self,
        checked: &CheckedOffer,
        counter: u64,
    ) -> Result<PaymentRecord, Box<SessionEnd>> {
        let out_of_date = |error| Box::new(SessionEnd::Refused(Refusal::KeyringOutOfDate(error)));
        let offer_digest = crate::protocol::digest_offer(&checked.octets);
        let command = CardCommand {
            card_id: *self.card.card_id(),
            offer_digest,
            counter,
            holder_verification: self.settings.holder_verification,
        };
        let signed = command.sign(self.card.key()).encode();
        let sealed = self
            .card
            .keyring()
            .sealing_key(self.settings.wall_clock)
            .and_then(|key| key.seal(&signed, &offer_digest, self.sealing_seed))
            .map_err(out_of_date)?;
        PaymentRecord::new(
            checked.octets.clone(),
            self.card.name().clone(),
            self.card.card_id().hint(),
            sealed.encode(),
            self.settings.wall_clock,
        )
        .map_err(|error| Box::new(SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(error))))
    }

    fn send_command(&mut self, now: Moment, mut record: Box<PaymentRecord>) -> Step {
        let command = FromPhone::PaymentCommand {
            transaction_id: record.transaction_id(),
            sealed_command: record.sealed_command().to_vec(),
        };
        match self.line.say(&command) {
            Ok(mut outputs) => {
                outputs.push(Output::Tell(Notice::CommandSent));
                (Stage::AwaitingResult(Waiting::from(now, record)), outputs)
            }
            Err(_) => {
                record.status = PaymentStatus::NotSent;
                self.store_and_end(record, SessionEnd::LinkFailed(LinkFault::Lost), false)
            }
        }
    }

    fn told_while_waiting(
        &mut self,
        now: Moment,
        mut waiting: Waiting,
        message: FromTerminal,
    ) -> Step {
        let mine = waiting.record.transaction_id();
        let not_charged = match message {
            FromTerminal::Result { transaction_id, outcome: Outcome::Pending, .. }
                if transaction_id == mine =>
            {
                if !waiting.is_pending {
                    waiting.is_pending = true;
                    waiting.until = now.plus_ms(PENDING_MS_MAX).min(waiting.until);
                }
                // Nobody has to speak while the institution is silent.
                waiting.quiet_until = waiting.until;
                return (Stage::AwaitingResult(waiting), vec![Output::Tell(Notice::Pending)]);
            }
            FromTerminal::Result { transaction_id, outcome, receipt } if transaction_id == mine => {
                return self.resulted(waiting.record, outcome, receipt);
            }
            FromTerminal::Working => {
                waiting.quiet_until = now.plus_ms(QUIET_MS_MAX).max(waiting.quiet_until);
                return (Stage::AwaitingResult(waiting), vec![Output::Tell(Notice::Working)]);
            }
            FromTerminal::Taken(id) if id == mine => NotCharged::Taken,
            FromTerminal::Withdrawn(id) if id == mine => NotCharged::Withdrawn,
            FromTerminal::Expired(id) if id == mine => NotCharged::Expired,
            FromTerminal::Error(ProtocolError {
                wire: wire @ (WireError::InstitutionUnreachable | WireError::InstitutionRefused),
                ..
            }) => NotCharged::Institution(wire),
            // Not a word about the money: it stays unknown.
            FromTerminal::Error(error) => {
                return end(SessionEnd::Pending(PendingReason::Terminal(error.wire)));
            }
            // About another payment, or an offer that this wallet does not want now.
            FromTerminal::Result { .. }
            | FromTerminal::NotUsed { .. }
            | FromTerminal::Keyring(_)
            | FromTerminal::Taken(_)
            | FromTerminal::Withdrawn(_)
            | FromTerminal::Expired(_)
            | FromTerminal::Offer(_)
            | FromTerminal::NothingToPay => return (Stage::AwaitingResult(waiting), Vec::new()),
        };
        let mut record = waiting.record;
        if matches!(
            record.status,
            PaymentStatus::Approved | PaymentStatus::Declined | PaymentStatus::Reversed
        ) {
            // The terminal's word does not undo the institution's.
            return end(SessionEnd::NotProven(ReceiptFault::Missing));
        }
        record.status = PaymentStatus::NotCharged;
        self.store_and_end(record, SessionEnd::NotCharged(not_charged), false)
    }

    fn resulted(
        &mut self,
        mut record: Box<PaymentRecord>,
        outcome: Outcome,
        receipt: Option<Vec<u8>>,
    ) -> Step {
        let last = match check_result(
            &record,
            outcome,
            receipt.as_deref(),
            self.card.keyring(),
            self.settings.wall_clock,
        ) {
            Ok(Some(verified)) => {
                record.status = match verified.status {
                    ReceiptStatus::Approved { .. } | ReceiptStatus::Captured { .. } => {
                        PaymentStatus::Approved
                    }
                    ReceiptStatus::Declined(_) => PaymentStatus::Declined,
                    ReceiptStatus::Reversed => PaymentStatus::Reversed,
                };
                record.receipt = receipt;
                return self.store_and_end(record, SessionEnd::Settled(verified), true);
            }
            Ok(None) => {
                record.status = PaymentStatus::Reversed;
                SessionEnd::ReversedUnproven
            }
            Err(fault) => {
                if record.receipt.is_some() {
                    // What was proven stays.
                    return end(SessionEnd::NotProven(fault));
                }
                record.status = PaymentStatus::NotProven;
                SessionEnd::NotProven(fault)
            }
        };
        self.store_and_end(record, last, false)
    }

    fn store_and_end(
        &self,
        mut record: Box<PaymentRecord>,
        last: SessionEnd,
        acknowledge: bool,
    ) -> Step {
        record.updated_at = self.settings.wall_clock;
        let stage = Stage::AwaitingLastStore { end: Box::new(last), acknowledge };
        (stage, vec![Output::Store { record, is_new: false }])
    }

    /// Ends before a command, and tells the terminal, so that the offer is free for others at once.
    fn cancel(&mut self, last: SessionEnd) -> Step {
        let mut outputs = self.line.say(&FromPhone::Cancel).unwrap_or_default();
        let (stage, more) = end(last);
        outputs.extend(more);
        (stage, outputs)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Waiting {
    fn from(now: Moment, record: Box<PaymentRecord>) -> Self {
        Self {
            record,
            quiet_until: now.plus_ms(QUIET_MS_MAX),
            until: now.plus_ms(RESULT_MS_MAX),
            is_pending: false,
        }
    }
}

/// [`Session::handle`] lets no such event through. A program that is built without debug assertions
/// ignores it.
fn impossible(stage: Stage, event: &Event) -> Step {
    debug_assert!(false, "{event:?} cannot happen in {stage:?}");
    (stage, Vec::new())
}

fn end(last: SessionEnd) -> Step {
    (Stage::Ended, vec![Output::End(Box::new(last)), Output::Disconnect])
}

fn unexpected(when: &str) -> SessionEnd {
    let error = ProtocolError::new(WireError::UnexpectedMessage, when);
    SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(error))
}

fn heard(message: &FromTerminal, octets: usize) -> Output {
    let message = match message {
        FromTerminal::Offer(_) => "offer",
        FromTerminal::NothingToPay => "nothing_to_pay",
        FromTerminal::Working => "working",
        FromTerminal::Result { .. } => "result",
        FromTerminal::NotUsed { .. } => "not_used",
        FromTerminal::Keyring(_) => "keyring",
        FromTerminal::Taken(_) => "taken",
        FromTerminal::Withdrawn(_) => "withdrawn",
        FromTerminal::Expired(_) => "expired",
        FromTerminal::Error(_) => "error",
    };
    Output::Tell(Notice::MessageReceived { message, octets })
}
