//! Messages of phones: values are put together to hellos, commands and questions, and those are
//! acted upon.

use std::collections::BTreeSet;

use rand_core::RngCore;

use super::super::phone_session::Received;
use super::super::replies::{is_payer, reply_to_hello, reply_to_question, unknown_payment};
use super::super::{Output, Payment, PaymentState, PhoneId, PhoneQuestion};
use super::phones::must_be_connected;
use super::{Effect, Terminal};
use crate::credential::SealedCommand;
use crate::domain::TransactionId;
use crate::protocol::{FragmentTag, FromPhone, FromTerminal, ProtocolError, WireError};

/// The longest sealed command, in octets: ten times what a plain one has.
const SEALED_COMMAND_OCTETS_MAX: usize = 2048;

impl Terminal {
    pub(super) fn phone_wrote(&mut self, phone: PhoneId, value_octets_max: usize, value: &[u8]) {
        // A write can overtake the news of its connection.
        self.phone_connected(phone, None);
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
            .waiting_offer()
            .and_then(|transaction_id| self.open.get(&transaction_id))
            .filter(|open| self.gate.is_confirmed(open.record) && open.is_payable(self.now.moment))
            .map(|open| (open.payment.transaction_id, open.payment.offer.clone()));
        let mut ephemeral = [0; 32];
        self.random.fill_bytes(&mut ephemeral);
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return Ok(()) };
        session.hellos += 1;
        if session.hellos > self.settings.hellos_max {
            self.dismiss(phone, "too many hellos on this connection");
            return Ok(());
        }
        let (was_shown, is_first) = (session.shown, !session.has_said_hello);
        let mut shown = None;
        let answered = session.answer_hello(message, tag, &self.identity, ephemeral, |hello| {
            // An engagement link may name an offer that was made again since.
            let is_open = |id| {
                self.open.contains_key(&id)
                    || self.open.values().any(|open| open.payment.sale_id == id)
            };
            let (first, offer) = reply_to_hello(hello.transaction_id, waiting, is_open);
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
        if is_first && result.is_ok() {
            self.seat_after_hello(phone);
        }
        result
    }

    /// Shows a new offer to every phone that waits for one.
    pub(super) fn show_offer(&mut self, transaction_id: TransactionId) {
        // The offer may have ended before the journal confirmed it.
        let Some(open) = self.open.get(&transaction_id) else { return };
        if open.payment.state != PaymentState::Offered {
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
            FromPhone::Cancel { transaction_id } => self.phone_refuses(phone, transaction_id),
            FromPhone::ReceiptAck { transaction_id } => {
                tracing::debug!(?phone, %transaction_id, "the phone has its receipt");
            }
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
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return Ok(()) };
        let (is_shown, address) = (session.shown == Some(transaction_id), session.address);
        let payable = self
            .open
            .get_mut(&transaction_id)
            .filter(|open| is_shown && open.is_payable(self.now.moment));
        if let Some(open) = payable {
            open.payment.sealed_command = Some(sealed_command);
            open.payer = Some(phone);
            open.payer_address = address;
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

    /// The person does not want to pay this offer.
    fn phone_refuses(&mut self, phone: PhoneId, transaction_id: TransactionId) {
        let Some(session) = must_be_connected(&mut self.phones, phone) else { return };
        if session.shown == Some(transaction_id) {
            session.shown = None;
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
        self.after_record(question.transaction_id, Effect::Send { phone, message });
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
    }
}
