//! Messages of phones: values are put together to hellos, commands and questions, and those are
//! acted upon.

use std::collections::BTreeSet;

use rand_core::RngCore;

use super::super::phone_session::Received;
use super::super::replies::{
    error, is_payer, never_came, reply_to_hello, reply_to_question, unknown_payment,
};
use super::super::{JournalledCommand, Output, Payment, PaymentState, PhoneId, PhoneQuestion};
use super::phones::must_be_connected;
use super::{Effect, Terminal};
use crate::credential::SealedCommand;
use crate::domain::{TransactionId, UnixTime};
use crate::protocol::{
    FragmentTag, FromPhone, FromTerminal, MatchingNonce, ProtocolError, WireError,
};

/// The longest sealed command, in octets: ten times what a plain one has.
const SEALED_COMMAND_OCTETS_MAX: usize = 2048;

impl Terminal {
    pub(super) fn phone_wrote(&mut self, phone: PhoneId, value_octets_max: usize, value: &[u8]) {
        // A write can overtake the news of its connection.
        self.phone_connected(phone);
        // The phone may be leaving, or have found no slot.
        let Some(session) = self.phones.get_mut(&phone) else { return };
        let now = self.now.moment;
        if !session.may_write(now) {
            return self.dismiss(phone, "too many values");
        }
        let received = session.receive(value, value_octets_max);
        session.update_message_deadline(now, self.settings.message_timeout_ms);
        let is_message = matches!(received, Ok(Received::Hello { .. } | Received::Message(_)));
        if is_message && !session.may_send(now) {
            return self.dismiss(phone, "too many messages");
        }
        let result = match received {
            Ok(Received::Fragment) => Ok(()),
            Ok(Received::Hello { message, tag }) => self.phone_said_hello(phone, &message, tag),
            Ok(Received::Message(message)) => {
                session.silence_ends_at = now.plus_ms(self.settings.silence_timeout_ms);
                self.phone_sent(phone, message)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.protocol_error(phone, error);
        }
    }

    /// Tells the phone what was wrong, and ends the connection of one that makes too many errors.
    fn protocol_error(&mut self, phone: PhoneId, error: ProtocolError) {
        tracing::debug!(?phone, %error, "protocol error of a phone");
        self.send(phone, &FromTerminal::Error(error));
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return };
        session.protocol_errors += 1;
        // A phone without a channel shows no offer any more, and no matching code.
        let gone = if session.is_open() { None } else { session.shown.take() };
        if session.protocol_errors >= self.settings.protocol_errors_max {
            self.dismiss(phone, "too many protocol errors");
        }
        if let Some(gone) = gone {
            self.publish(gone);
        }
    }

    fn phone_said_hello(
        &mut self,
        phone: PhoneId,
        message: &[u8],
        tag: FragmentTag,
    ) -> Result<(), ProtocolError> {
        let waiting = self
            .durable_offer()
            .and_then(|transaction_id| self.open.get(&transaction_id))
            .map(|open| (open.payment.transaction_id, open.payment.offer.clone()));
        let is_in_service = self.is_in_service;
        let mut ephemeral = [0; 32];
        self.random.fill_bytes(&mut ephemeral);
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return Ok(()) };
        session.hellos += 1;
        if session.hellos > self.settings.hellos_max {
            self.dismiss(phone, "too many hellos on this connection");
            return Ok(());
        }
        let was_shown = session.shown;
        let mut shown = None;
        let answered = session.answer_hello(message, tag, &self.identity, ephemeral, |hello| {
            // An engagement link may name an offer that was made again since.
            let is_open = |id| {
                self.open.contains_key(&id)
                    || self.open.values().any(|open| open.payment.sale_id == id)
            };
            let (first, offer) = reply_to_hello(hello.transaction_id, waiting, is_open);
            if offer.is_some() && !is_in_service {
                return error(WireError::OutOfService, "nobody can pay now");
            }
            shown = offer;
            first
        });
        let result = answered.map(|values| {
            session.shown = shown;
            let silence_timeout_ms = self.settings.silence_timeout_ms;
            session.silence_ends_at = self.now.moment.plus_ms(silence_timeout_ms);
            self.outputs.extend(values.into_iter().map(|value| Output::Notify { phone, value }));
        });
        // The matching code of the earlier channel is gone, even if the hello failed.
        let changed: BTreeSet<TransactionId> = was_shown.into_iter().chain(session.shown).collect();
        for transaction_id in changed {
            self.publish(transaction_id);
        }
        result
    }

    /// The offer that waits for a phone, if the journal holds it.
    fn durable_offer(&self) -> Option<TransactionId> {
        self.waiting_offer().filter(|transaction_id| {
            self.open.get(transaction_id).is_some_and(|open| {
                self.gate.is_confirmed(open.record) && open.is_payable(self.now.moment)
            })
        })
    }

    /// Takes whether somebody can pay. Phones that came while nobody could are shown the offer
    /// then.
    pub(super) fn in_service(&mut self, is_in_service: bool) {
        let was_in_service = std::mem::replace(&mut self.is_in_service, is_in_service);
        if is_in_service
            && !was_in_service
            && let Some(transaction_id) = self.durable_offer()
        {
            self.show_offer(transaction_id);
        }
    }

    /// Shows a new offer to every phone that waits for one, if somebody can pay it.
    pub(super) fn show_offer(&mut self, transaction_id: TransactionId) {
        // The offer may have ended before the journal confirmed it.
        let Some(open) = self.open.get(&transaction_id) else { return };
        if open.payment.state != PaymentState::Offered || !self.is_in_service {
            return;
        }
        let message = FromTerminal::Offer(open.payment.offer.clone());
        let mut waiting = Vec::new();
        for (phone, session) in &mut self.phones {
            let waits = session.is_open()
                && session.shown.is_none()
                && session.wanted.is_none_or(|wanted| wanted == transaction_id)
                && session.refused != Some(transaction_id);
            if waits {
                session.shown = Some(transaction_id);
                waiting.push(*phone);
            }
        }
        for phone in &waiting {
            self.send(*phone, &message);
        }
        if !waiting.is_empty() {
            self.publish(transaction_id);
        }
    }

    fn phone_sent(&mut self, phone: PhoneId, message: FromPhone) -> Result<(), ProtocolError> {
        match message {
            FromPhone::PaymentCommand { transaction_id, sealed_command } => {
                return self.phone_pays(phone, transaction_id, sealed_command);
            }
            FromPhone::ResultQuery { transaction_id, command_digest } => {
                let is_command = false;
                self.phone_inquires(
                    phone,
                    PhoneQuestion { transaction_id, command_digest, is_command },
                );
            }
            FromPhone::Opening { matching_nonce, keyring_issued_at } => {
                return self.phone_opened(phone, matching_nonce, keyring_issued_at);
            }
            FromPhone::Cancel => self.phone_refuses(phone),
            FromPhone::ReceiptAck => tracing::debug!(?phone, "the phone has its receipt"),
        }
        Ok(())
    }

    /// Accepts a command for the offer that the phone shows. The first valid command wins.
    fn phone_pays(
        &mut self,
        phone: PhoneId,
        transaction_id: TransactionId,
        sealed_command: Vec<u8>,
    ) -> Result<(), ProtocolError> {
        if sealed_command.len() > SEALED_COMMAND_OCTETS_MAX {
            let detail = format!("a sealed command of {} octets", sealed_command.len());
            return Err(ProtocolError::new(WireError::MessageTooLong, detail));
        }
        SealedCommand::decode(&sealed_command)
            .map_err(|error| ProtocolError::new(WireError::MalformedMessage, error))?;
        let is_shown =
            self.phones.get(&phone).is_some_and(|session| session.shown == Some(transaction_id));
        let payable = self
            .open
            .get_mut(&transaction_id)
            .filter(|open| is_shown && open.is_payable(self.now.moment));
        if let Some(open) = payable {
            open.payment.command = Some(JournalledCommand::Full(sealed_command));
            open.payer = Some(phone);
            self.move_to(transaction_id, PaymentState::Authorising, None);
        } else {
            let command_digest = SealedCommand::digest_of_encoded(&sealed_command);
            self.phone_inquires(
                phone,
                PhoneQuestion { transaction_id, command_digest, is_command: true },
            );
        }
        Ok(())
    }

    /// The phone reveals the matching nonce, so that both sides can show the matching code. It gets
    /// the institution's keyring if its own is older.
    fn phone_opened(
        &mut self,
        phone: PhoneId,
        matching_nonce: MatchingNonce,
        keyring_issued_at: UnixTime,
    ) -> Result<(), ProtocolError> {
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return Ok(()) };
        session.reveal(matching_nonce)?;
        if keyring_issued_at < self.identity.keyring.issued_at {
            let keyring = FromTerminal::Keyring(self.identity.keyring_octets.clone());
            self.send(phone, &keyring);
        }
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return Ok(()) };
        if let Some(shown) = session.shown {
            self.publish(shown);
        }
        Ok(())
    }

    /// The person does not want to pay the offer that the phone shows.
    fn phone_refuses(&mut self, phone: PhoneId) {
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return };
        if let Some(transaction_id) = session.shown.take() {
            session.refused = Some(transaction_id);
            self.publish(transaction_id);
        }
        self.send(phone, &FromTerminal::NothingToPay);
    }

    /// Answers a question about an open payment, and has the journal searched for any other.
    fn phone_inquires(&mut self, phone: PhoneId, question: PhoneQuestion) {
        let Some(open) = self.open.get_mut(&question.transaction_id) else {
            self.outputs.push(Output::Load { phone, question });
            return;
        };
        let message = reply_to_question(&open.payment, &question);
        if is_payer(&open.payment, &question) {
            // The payer came back on another connection, and later messages are for that one.
            open.payer = Some(phone);
        }
        let waits_for_proof = waits_for_proof(&open.payment, &question);
        let PhoneQuestion { transaction_id, command_digest, .. } = question;
        self.after_record(transaction_id, Effect::Send { phone, message });
        if waits_for_proof {
            self.claim(phone, transaction_id, command_digest, None);
        }
    }

    /// Answers a question with what the journal holds.
    pub(super) fn loaded(
        &mut self,
        phone: PhoneId,
        question: &PhoneQuestion,
        payment: Option<&Payment>,
    ) {
        let message = match payment {
            Some(payment) => reply_to_question(payment, question),
            None => unknown_payment(),
        };
        self.send(phone, &message);
        if let Some(payment) = payment.filter(|payment| waits_for_proof(payment, question))
            && self.phones.contains_key(&phone)
        {
            let PhoneQuestion { transaction_id, command_digest, .. } = *question;
            self.claim(phone, transaction_id, command_digest, Some(payment));
        }
    }
}

/// Was the phone answered with the terminal's word, which is to be proven?
fn waits_for_proof(payment: &Payment, question: &PhoneQuestion) -> bool {
    !is_payer(payment, question)
        && !never_came(payment, question)
        && !payment.is_excluded(question.command_digest)
}
