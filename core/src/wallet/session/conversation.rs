//! The session's stages, and how each stage handles an event.

use std::sync::Arc;

use super::check::{self, check_card, check_offer, check_terminal, is_as_told};
use super::exchange::{
    Decision, Input, InputRefusal, Notice, OfferView, Output, Reservation, SessionSeed,
    SessionSettings,
};
use super::line::{Line, Reading};
use crate::credential::{CardCommand, CredentialError, Signed, TerminalCertificate};
use crate::domain::{Moment, Offer, Outcome, Receipt, TransactionId};
use crate::protocol::{FromPhone, FromTerminal, Hello, ProtocolError, WireError};
use crate::wallet::{
    Card, LinkFault, NotPaid, PaymentRecord, PaymentStatus, PendingReason, ReceiptFault, Refusal,
    SessionEnd, TerminalWord, check_exclusion, check_receipt, exclude, settle,
};

/// How long the answer to the hello may take, in milliseconds. The terminal has it ready; the
/// slowest connection (MTU 23, an interval of 100 ms) carries it in 4 s.
pub(super) const ANSWER_MS_MAX: u64 = 6_000;
/// How long a newer keyring may take if the certificate's key is in none that the phone has, in
/// milliseconds. The terminal has it ready, too.
pub(super) const KEYRING_MS_MAX: u64 = 6_000;
/// How long the terminal may be quiet while it works on a command, in milliseconds
/// (docs/protocol.md, section 8): it speaks every 2 s.
pub(super) const QUIET_MS_MAX: u64 = 10_000;
/// How long a result may take with signs of life, in milliseconds. A terminal gives up on the
/// institution sooner.
pub(super) const RESULT_MS_MAX: u64 = 60_000;
/// How long to stay for the institution's word after the terminal said its own, or that it is
/// pending, in milliseconds. A person does not stand there longer; the result can be asked for
/// later.
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

/// What the terminal said first, and the key that the handshake proved.
#[derive(Debug)]
struct HelloAnswered {
    terminal_key: [u8; 32],
    certificate: Vec<u8>,
    first: FromTerminal,
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
    /// What the terminal said without a proof. The proof may follow.
    word: Option<TerminalWord>,
    /// The approval, where the session stays for what becomes of it.
    approval: Option<Box<Receipt>>,
}

#[derive(Debug)]
enum Stage {
    AwaitingAnswer {
        purpose: Purpose,
        until: Moment,
    },
    /// The certificate names a key that the card's keyring lacks. A newer keyring may come.
    AwaitingKeyring {
        purpose: Purpose,
        answered: Box<HelloAnswered>,
        refusal: Refusal,
        until: Moment,
    },
    /// A newer keyring is being stored, and is used only then.
    AwaitingKeyringStore {
        /// With the newer keyring.
        card: Arc<Card>,
        next: Box<Stage>,
    },
    AwaitingOffer {
        certificate: Box<TerminalCertificate>,
        until: Moment,
    },
    AwaitingDecision {
        checked: Box<CheckedOffer>,
        until: Moment,
    },
    AwaitingReservation {
        checked: Box<CheckedOffer>,
    },
    AwaitingStore {
        record: Box<PaymentRecord>,
    },
    AwaitingResult(Waiting),
    /// The approval is being stored. The session then stays for what becomes of it.
    AwaitingApprovalStore(Waiting),
    AwaitingLastStore {
        end: Box<SessionEnd>,
        acknowledge: bool,
    },
    Ended,
}

/// What an input means, after decryption.
#[derive(Debug)]
enum Event {
    Answer(Box<HelloAnswered>),
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
    /// The certificate that was accepted, and the key that the handshake proved.
    terminal: Option<(Vec<u8>, [u8; 32])>,
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
        // The hello is not encrypted, and a listener need not know which payment is asked about.
        Self::start(card, settings, seed, now, Purpose::Ask(Box::new(record)), None)
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
        (Self { card, settings, sealing_seed: sealing, line, terminal: None, stage }, outputs)
    }

    /// When [`Input::Tick`] is due, if nothing else happens before; none while only the store is
    /// waited for.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.stage {
            Stage::AwaitingAnswer { until, .. }
            | Stage::AwaitingKeyring { until, .. }
            | Stage::AwaitingOffer { until, .. }
            | Stage::AwaitingDecision { until, .. } => Some(*until),
            Stage::AwaitingResult(waiting) => Some(waiting.quiet_until.min(waiting.until)),
            Stage::AwaitingReservation { .. }
            | Stage::AwaitingKeyringStore { .. }
            | Stage::AwaitingStore { .. }
            | Stage::AwaitingApprovalStore(_)
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
                    Event::Answer(Box::new(HelloAnswered {
                        terminal_key,
                        certificate: answer.certificate,
                        first: answer.first,
                    }))
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
            | Stage::AwaitingKeyringStore { .. }
            | Stage::AwaitingStore { .. }
            | Stage::AwaitingApprovalStore(_)
            | Stage::AwaitingLastStore { .. } => true,
            Stage::AwaitingAnswer { .. }
            | Stage::AwaitingKeyring { .. }
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
        // It may come at any time on the channel.
        if let Event::Message(FromTerminal::Keyring(octets)) = &event {
            return self.got_keyring(stage, octets);
        }
        match stage {
            Stage::AwaitingKeyring { purpose, answered, refusal, until } => {
                self.before_a_keyring(purpose, answered, refusal, until, event)
            }
            Stage::AwaitingKeyringStore { card, next } => {
                self.keyring_stored(now, card, *next, event)
            }
            Stage::AwaitingAnswer { .. }
            | Stage::AwaitingOffer { .. }
            | Stage::AwaitingDecision { .. } => self.before_consent(now, stage, event),
            Stage::AwaitingReservation { .. } | Stage::AwaitingStore { .. } => {
                self.before_the_command(now, stage, event)
            }
            Stage::AwaitingResult(waiting) => self.after_the_command(now, waiting, event),
            Stage::AwaitingApprovalStore(waiting) => self.approval_stored(waiting, event),
            Stage::AwaitingLastStore { end: last, acknowledge } => {
                self.before_the_end(last, acknowledge, event)
            }
            Stage::Ended => impossible(stage, &event),
        }
    }

    fn before_consent(&mut self, now: Moment, stage: Stage, event: Event) -> Step {
        match (stage, event) {
            (Stage::AwaitingAnswer { purpose, .. }, Event::Answer(answered)) => {
                self.answered(now, purpose, answered)
            }
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
                event @ (Event::Answer(_)
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
                event @ (Event::Answer(_)
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
        let without_an_answer = |reason| end(waiting.without_more(reason));
        match event {
            Event::Message(message) => self.told_while_waiting(now, waiting, message),
            Event::Malformed(_) if !self.line.count_unreadable() => {
                (Stage::AwaitingResult(waiting), Vec::new())
            }
            Event::Malformed(_) | Event::Unreadable => without_an_answer(PendingReason::Unreadable),
            // In the clear, so anybody's: it never ends a payment.
            Event::PlainError(_) => (Stage::AwaitingResult(waiting), Vec::new()),
            Event::Tick if now >= waiting.until => without_an_answer(PendingReason::TookTooLong),
            Event::Tick => without_an_answer(PendingReason::NoSignOfLife),
            Event::LinkLost => without_an_answer(PendingReason::LinkLost),
            Event::Answer(_)
            | Event::Decided(_)
            | Event::Reserved(_)
            | Event::Stored
            | Event::StoreFailed => impossible(Stage::AwaitingResult(waiting), &event),
        }
    }

    /// The approval is on the disk: the terminal is told, and the session stays.
    fn approval_stored(&mut self, waiting: Waiting, event: Event) -> Step {
        match event {
            Event::Stored => {
                let outputs = self.line.say(&FromPhone::ReceiptAck).unwrap_or_default();
                (Stage::AwaitingResult(waiting), outputs)
            }
            Event::StoreFailed | Event::LinkLost => {
                end(waiting.without_more(PendingReason::LinkLost))
            }
            Event::Answer(_)
            | Event::Message(_)
            | Event::Malformed(_)
            | Event::PlainError(_)
            | Event::Unreadable
            | Event::Decided(_)
            | Event::Reserved(_)
            | Event::Tick => impossible(Stage::AwaitingApprovalStore(waiting), &event),
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
            Event::Answer(_)
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

    fn answered(&mut self, now: Moment, purpose: Purpose, answered: Box<HelloAnswered>) -> Step {
        let checked = self.check_answer(&purpose, &answered);
        if let Err(refusal @ Refusal::Certificate(CredentialError::UnknownKey(_))) = checked {
            // The institution may have changed its keys: the terminal then has a newer keyring.
            let outputs = self.say_opening();
            let until = now.plus_ms(KEYRING_MS_MAX);
            return (Stage::AwaitingKeyring { purpose, answered, refusal, until }, outputs);
        }
        match checked {
            Ok(certificate) => {
                let mut outputs = self.say_opening();
                let (stage, more) = self.opened(now, purpose, certificate, *answered);
                outputs.extend(more);
                (stage, outputs)
            }
            Err(refusal) => end(SessionEnd::Refused(refusal)),
        }
    }

    fn check_answer(
        &self,
        purpose: &Purpose,
        answered: &HelloAnswered,
    ) -> Result<Box<TerminalCertificate>, Refusal> {
        let expected_terminal = match purpose {
            Purpose::Ask(record) => Some(record.offer().terminal_id()),
            Purpose::Pay => None,
        };
        check_terminal(
            &answered.certificate,
            &answered.terminal_key,
            expected_terminal,
            &self.settings,
            self.card.keyring(),
        )
        .map(Box::new)
    }

    fn say_opening(&mut self) -> Vec<Output> {
        let opening = FromPhone::Opening {
            matching_nonce: self.line.matching_nonce(),
            keyring_issued_at: self.card.keyring().issued_at,
        };
        self.line.say(&opening).unwrap_or_default()
    }

    /// Waits for a newer keyring before the certificate can be checked.
    fn before_a_keyring(
        &mut self,
        purpose: Purpose,
        mut answered: Box<HelloAnswered>,
        refusal: Refusal,
        until: Moment,
        event: Event,
    ) -> Step {
        match event {
            Event::Message(FromTerminal::Error(error)) => {
                end(SessionEnd::NotPaid(NotPaid::Terminal(error.wire)))
            }
            Event::Message(message) => {
                // The newest word counts once the certificate is checked.
                answered.first = message;
                (Stage::AwaitingKeyring { purpose, answered, refusal, until }, Vec::new())
            }
            Event::Tick => end(SessionEnd::Refused(refusal)),
            Event::LinkLost => end(SessionEnd::LinkFailed(LinkFault::Lost)),
            Event::Unreadable => end(SessionEnd::LinkFailed(LinkFault::Unreadable)),
            Event::Malformed(error) => end(SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(error))),
            Event::PlainError(error) => end(SessionEnd::NotPaid(NotPaid::Terminal(error.wire))),
            Event::Answer(_)
            | Event::Decided(_)
            | Event::Reserved(_)
            | Event::Stored
            | Event::StoreFailed => {
                impossible(Stage::AwaitingKeyring { purpose, answered, refusal, until }, &event)
            }
        }
    }

    /// Takes a keyring over if the root signed it and it is newer. Any other is ignored.
    fn got_keyring(&mut self, stage: Stage, octets: &[u8]) -> Step {
        let newer = Signed::decode(octets).ok().and_then(|signed| self.card.with_newer(signed));
        match newer {
            Some(card) => {
                let keyring = Box::new(card.signed_keyring().clone());
                let stage =
                    Stage::AwaitingKeyringStore { card: Arc::new(card), next: Box::new(stage) };
                (stage, vec![Output::StoreKeyring(keyring)])
            }
            None => (stage, Vec::new()),
        }
    }

    fn keyring_stored(&mut self, now: Moment, card: Arc<Card>, next: Stage, event: Event) -> Step {
        match event {
            Event::Stored => {
                self.card = card;
                self.with_newer_keyring(now, next)
            }
            // What is not on the disk is not used.
            Event::StoreFailed => match next {
                Stage::AwaitingKeyring { refusal, .. } => end(SessionEnd::Refused(refusal)),
                next @ (Stage::AwaitingAnswer { .. }
                | Stage::AwaitingKeyringStore { .. }
                | Stage::AwaitingOffer { .. }
                | Stage::AwaitingDecision { .. }
                | Stage::AwaitingReservation { .. }
                | Stage::AwaitingStore { .. }
                | Stage::AwaitingResult(_)
                | Stage::AwaitingApprovalStore(_)
                | Stage::AwaitingLastStore { .. }
                | Stage::Ended) => (next, Vec::new()),
            },
            Event::LinkLost => self.step(now, next, Event::LinkLost),
            Event::Answer(_)
            | Event::Message(_)
            | Event::Malformed(_)
            | Event::PlainError(_)
            | Event::Unreadable
            | Event::Decided(_)
            | Event::Reserved(_)
            | Event::Tick => {
                impossible(Stage::AwaitingKeyringStore { card, next: Box::new(next) }, &event)
            }
        }
    }

    /// Goes on with the newer keyring. It may name the certificate's key at last, or no longer.
    fn with_newer_keyring(&mut self, now: Moment, next: Stage) -> Step {
        match next {
            Stage::AwaitingKeyring { purpose, answered, .. } => {
                match self.check_answer(&purpose, &answered) {
                    Ok(certificate) => self.opened(now, purpose, certificate, *answered),
                    Err(refusal) => end(SessionEnd::Refused(refusal)),
                }
            }
            next @ (Stage::AwaitingOffer { .. } | Stage::AwaitingDecision { .. }) => {
                let Some((certificate, terminal_key)) = &self.terminal else {
                    return (next, Vec::new());
                };
                let (settings, keyring) = (&self.settings, self.card.keyring());
                match check_terminal(certificate, terminal_key, None, settings, keyring) {
                    Ok(_) => (next, Vec::new()),
                    Err(refusal) => self.cancel(SessionEnd::Refused(refusal)),
                }
            }
            next @ (Stage::AwaitingAnswer { .. }
            | Stage::AwaitingKeyringStore { .. }
            | Stage::AwaitingReservation { .. }
            | Stage::AwaitingStore { .. }
            | Stage::AwaitingResult(_)
            | Stage::AwaitingApprovalStore(_)
            | Stage::AwaitingLastStore { .. }
            | Stage::Ended) => (next, Vec::new()),
        }
    }

    fn opened(
        &mut self,
        now: Moment,
        purpose: Purpose,
        certificate: Box<TerminalCertificate>,
        answered: HelloAnswered,
    ) -> Step {
        self.terminal = Some((answered.certificate, answered.terminal_key));
        let first = answered.first;
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
                    PaymentStatus::Approved
                    | PaymentStatus::Captured
                    | PaymentStatus::Declined
                    | PaymentStatus::Reversed
                    | PaymentStatus::NotCharged => {
                        return self.cancel(SessionEnd::Refused(Refusal::AlreadySettled));
                    }
                    PaymentStatus::Pending | PaymentStatus::NotSent | PaymentStatus::NotProven => {}
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
        let word = match message {
            FromTerminal::Result { transaction_id, outcome: Outcome::Pending, .. }
                if transaction_id == mine =>
            {
                waiting.is_pending = true;
                waiting.stay_for(now, PENDING_MS_MAX);
                return (Stage::AwaitingResult(waiting), vec![Output::Tell(Notice::Pending)]);
            }
            FromTerminal::Result { transaction_id, outcome: Outcome::Reversed, receipt: None }
                if transaction_id == mine =>
            {
                TerminalWord::Reversed
            }
            FromTerminal::Result { transaction_id, outcome, receipt } if transaction_id == mine => {
                return self.resulted(now, waiting, outcome, receipt);
            }
            FromTerminal::NotUsed { transaction_id, exclusion } if transaction_id == mine => {
                return self.not_used(waiting, exclusion);
            }
            FromTerminal::Working => {
                waiting.quiet_until = now.plus_ms(QUIET_MS_MAX).max(waiting.quiet_until);
                return (Stage::AwaitingResult(waiting), vec![Output::Tell(Notice::Working)]);
            }
            FromTerminal::Taken(id) if id == mine => TerminalWord::Taken,
            FromTerminal::Withdrawn(id) if id == mine => TerminalWord::Withdrawn,
            FromTerminal::Expired(id) if id == mine => TerminalWord::Expired,
            FromTerminal::Error(ProtocolError {
                wire: wire @ (WireError::InstitutionUnreachable | WireError::InstitutionRefused),
                ..
            }) => TerminalWord::Institution(wire),
            // Not a word about the money: it stays unknown.
            FromTerminal::Error(error) => {
                return end(waiting.without_more(PendingReason::Terminal(error.wire)));
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
        // The terminal's word ends nothing. An honest terminal sends the proof after it.
        waiting.word = Some(word);
        waiting.stay_for(now, PENDING_MS_MAX);
        (Stage::AwaitingResult(waiting), vec![Output::Tell(Notice::Unproven(word))])
    }

    fn not_used(&mut self, waiting: Waiting, octets: Vec<u8>) -> Step {
        let mut record = waiting.record;
        let (keyring, now) = (self.card.keyring(), self.settings.wall_clock);
        match check_exclusion(&record, &octets, keyring, now) {
            Ok(exclusion) => {
                let last = exclude(&mut record, exclusion, octets);
                self.store_and_end(record, last, true)
            }
            Err(fault) => self.not_proven(record, fault),
        }
    }

    fn resulted(
        &mut self,
        now: Moment,
        mut waiting: Waiting,
        outcome: Outcome,
        receipt: Option<Vec<u8>>,
    ) -> Step {
        let (keyring, wall_clock) = (self.card.keyring(), self.settings.wall_clock);
        let Some(octets) = receipt else {
            return self.not_proven(waiting.record, ReceiptFault::Missing);
        };
        let receipt = match check_receipt(&waiting.record, &octets, keyring, wall_clock) {
            Ok(receipt) if is_as_told(&receipt, outcome) => receipt,
            Ok(_) => return self.not_proven(waiting.record, ReceiptFault::OtherStatus),
            Err(fault) => return self.not_proven(waiting.record, fault),
        };
        if waiting.approval.as_deref() == Some(&receipt) {
            // Said again: nothing new.
            return (Stage::AwaitingResult(waiting), Vec::new());
        }
        let last = settle(&mut waiting.record, receipt, octets);
        let SessionEnd::Reserved(approval) = last else {
            return self.store_and_end(waiting.record, last, true);
        };
        if self.settings.stay_ms == 0 {
            return self.store_and_end(waiting.record, SessionEnd::Reserved(approval), true);
        }
        waiting.record.updated_at = wall_clock;
        let outputs = vec![
            Output::Tell(Notice::Reserved(Box::new(approval.clone()))),
            Output::Store { record: waiting.record.clone(), is_new: false },
        ];
        waiting.approval = Some(Box::new(approval));
        waiting.until = now.plus_ms(self.settings.stay_ms);
        waiting.quiet_until = waiting.until;
        (Stage::AwaitingApprovalStore(waiting), outputs)
    }

    /// What was presented proves nothing. What was proven before stays.
    fn not_proven(&self, mut record: Box<PaymentRecord>, fault: ReceiptFault) -> Step {
        if record.receipt.is_some() || record.exclusion.is_some() {
            return end(SessionEnd::NotProven(fault));
        }
        record.status = PaymentStatus::NotProven;
        self.store_and_end(record, SessionEnd::NotProven(fault), false)
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
            word: None,
            approval: None,
        }
    }

    /// Stays for a proof, from the first word on. Nobody has to speak meanwhile.
    fn stay_for(&mut self, now: Moment, duration_ms: u64) {
        self.until = now.plus_ms(duration_ms).min(self.until);
        self.quiet_until = self.until;
    }

    /// How the session ends if the terminal says no more.
    fn without_more(&self, reason: PendingReason) -> SessionEnd {
        match (&self.approval, self.word) {
            (Some(approval), _) => SessionEnd::Reserved(Receipt::clone(approval)),
            (None, Some(word)) => SessionEnd::Unproven(word),
            (None, None) if self.is_pending => SessionEnd::Pending(PendingReason::Institution),
            (None, None) => SessionEnd::Pending(reason),
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
