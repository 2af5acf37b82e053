//! A command behind which no card stands: its phone is sent away, and the sale is offered again.
//!
//! Such a command costs nothing, so whoever sends it must not end what somebody else is about to
//! pay. The till knows the sale by the id of its first transaction and keeps that id; phones and
//! institution know each transaction by its own.

use rand_core::RngCore;

use super::super::open_payment::OpenPayment;
use super::super::{Payment, PaymentState};
use super::{Effect, Terminal, must_be_open};
use crate::domain::{DeclineReason, Offer, OfferParts, TransactionId};
use crate::protocol::{decode_offer, encode_offer};

impl Terminal {
    /// The newest transaction of the sale to which this one belongs. An id of no open payment
    /// stays as it is.
    pub(super) fn newest_of_sale(&self, transaction_id: TransactionId) -> TransactionId {
        let sale_id = match self.open.get(&transaction_id) {
            Some(open) if !open.is_superseded => return transaction_id,
            Some(open) => open.payment.sale_id,
            None => transaction_id,
        };
        self.open
            .values()
            .find(|open| open.payment.sale_id == sale_id && !open.is_superseded)
            .map_or(transaction_id, |open| open.payment.transaction_id)
    }

    /// The institution declined a command for a reason that shows that no card stands behind it.
    pub(super) fn declined_without_card(
        &mut self,
        transaction_id: TransactionId,
        reason: DeclineReason,
        receipt: Option<Vec<u8>>,
    ) {
        let next = self.next_offer(transaction_id);
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        open.is_superseded = next.is_some();
        let (payer, address) = (open.payer, open.payer_address);
        if let Some(address) = address {
            self.hold_off(address);
        }
        self.move_to(transaction_id, PaymentState::Declined(reason), receipt);
        if let Some(phone) = payer {
            let reason = "a command without a card";
            self.after_record(transaction_id, Effect::TurnAway { phone, reason });
        }
        if let Some(next) = next {
            tracing::warn!(
                %transaction_id, again = %next.payment.transaction_id, reoffers = next.reoffers,
                reason = reason.name(),
                "a phone sent a command without a card; the sale is offered again"
            );
            self.open_offer(next);
        }
    }

    /// The offer of a payment once more: a new transaction of the same sale, good for the time that
    /// is left. None if the till does not wait for this payment any more, or if there was enough of
    /// this.
    fn next_offer(&mut self, transaction_id: TransactionId) -> Option<OpenPayment> {
        let now = self.now.moment;
        let open = self.open.get(&transaction_id)?;
        // The till was told of a payment that is `unresolved`, and may have offered another.
        if open.payment.state != PaymentState::Authorising || self.waiting_offer().is_some() {
            return None;
        }
        let (valid_for_s, reoffers) = (open.offer_remaining_s(now), open.reoffers + 1);
        if valid_for_s == 0 || reoffers > self.settings.reoffers_max || !self.reoffers.take(now) {
            return None;
        }
        let earlier = decode_offer(&open.payment.offer).ok()?;
        let payment = open.payment.clone();
        let (mut id, mut nonce) = ([0; 16], [0; 16]);
        self.random.fill_bytes(&mut id);
        self.random.fill_bytes(&mut nonce);
        let offer = Offer::new(OfferParts {
            transaction_id: TransactionId::from_random(id),
            valid_for_s,
            nonce,
            ..earlier.into_parts()
        });
        let offer = offer.ok()?;
        let payment = Payment {
            transaction_id: offer.transaction_id(),
            state: PaymentState::Offered,
            offer: encode_offer(&offer),
            sealed_command: None,
            receipt: None,
            updated_at: self.now.wall,
            ..payment
        };
        let mut next = OpenPayment::offered(payment, now, valid_for_s);
        next.reoffers = reoffers;
        Some(next)
    }
}
