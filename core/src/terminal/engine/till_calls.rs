//! Calls of the till: offers that are made, and reports and cancellations of existing payments.

use rand_core::RngCore;
use sha2::{Digest, Sha256};

use super::super::open_payment::OpenPayment;
use super::super::transition::{on_resolve, on_till};
use super::super::{
    Output, Payment, PaymentRequest, PaymentState, PaymentView, TillCallId, TillRefusal,
    TillRequest,
};
use super::{Effect, Terminal};
use crate::domain::{IdempotencyKey, Offer, OfferError, OfferParts, TransactionId};
use crate::protocol::encode_offer;

/// SHA-256 over what the till requested under an idempotency key.
type ContentDigest = [u8; 32];

impl Terminal {
    pub(super) fn till_called(
        &mut self,
        call: TillCallId,
        request: TillRequest,
        stored: Option<Payment>,
    ) {
        let answer = match &request {
            TillRequest::Create(content) => self.create(content, stored),
            TillRequest::Complete { transaction_id, .. }
            | TillRequest::Cancel { transaction_id } => {
                self.settle(*transaction_id, &request, stored)
            }
            TillRequest::Resolve { transaction_id, dispensed } => {
                self.resolve(*transaction_id, *dispensed, stored)
            }
        };
        // A refusal, too, says how a payment stands, so it waits for that payment's record as every
        // other answer does.
        let about = match (&request, &answer) {
            (
                TillRequest::Complete { transaction_id, .. }
                | TillRequest::Cancel { transaction_id }
                | TillRequest::Resolve { transaction_id, .. },
                _,
            ) => Some(*transaction_id),
            (TillRequest::Create(_), Ok(view)) => Some(view.transaction_id),
            (
                TillRequest::Create(_),
                Err(TillRefusal::OfferWaiting(id) | TillRefusal::KeyReused(id)),
            ) => Some(*id),
            (TillRequest::Create(_), Err(_)) => None,
        };
        let output = Output::AnswerTill { call, answer };
        match about.map(|id| self.newest_of_sale(id)) {
            Some(transaction_id) => self.after_record(transaction_id, Effect::Emit(output)),
            None => self.outputs.push(output),
        }
    }

    fn create(
        &mut self,
        request: &PaymentRequest,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        let content = self.content_digest(request).map_err(no_offer)?;
        if let Some(key) = &request.idempotency_key
            && let Some(answer) = self.repeated(key, content, stored.as_ref())
        {
            return answer;
        }
        if let Some(waiting) = self.waiting_offer().and_then(|id| self.view(id)) {
            return Err(TillRefusal::OfferWaiting(waiting.transaction_id));
        }
        if self.open_count() >= self.settings.open_max {
            return Err(TillRefusal::TooManyOpen(self.settings.open_max));
        }
        let (mut id, mut nonce) = ([0; 16], [0; 16]);
        self.random.fill_bytes(&mut id);
        self.random.fill_bytes(&mut nonce);
        let offer =
            self.offer_for(request, TransactionId::from_random(id), nonce).map_err(no_offer)?;
        let idempotency = request.idempotency_key.as_ref().map(|key| (key.to_string(), content));
        let payment = Payment {
            transaction_id: offer.transaction_id(),
            sale_id: offer.transaction_id(),
            state: PaymentState::Offered,
            amount: offer.amount(),
            reference: offer.reference().to_owned(),
            capture_after_dispense: offer.capture_after_dispense(),
            offer: encode_offer(&offer),
            command: None,
            sequence: 0,
            receipt: None,
            exclusion: None,
            released: false,
            dispense_restarts: 0,
            confirmed_generation: None,
            idempotency,
            created_at: self.now.wall,
            updated_at: self.now.wall,
        };
        tracing::info!(
            transaction_id = %payment.transaction_id, amount = %payment.amount, "payment offered"
        );
        let view = PaymentView::of(&payment);
        self.open_offer(OpenPayment::offered(payment, self.now.moment, offer.valid_for_s()));
        Ok(view)
    }

    /// The offer that the till requests, under this id.
    fn offer_for(
        &self,
        request: &PaymentRequest,
        transaction_id: TransactionId,
        nonce: [u8; 16],
    ) -> Result<Offer, OfferError> {
        Offer::new(OfferParts {
            transaction_id,
            terminal_id: self.identity.terminal_id(),
            merchant_name: self.identity.certificate.merchant_name.clone(),
            amount: request.amount,
            valid_for_s: request.valid_for_s.unwrap_or(self.settings.valid_for_s),
            nonce,
            reference: request.reference.clone(),
            items: request.items.clone(),
            capture_after_dispense: request.capture_after_dispense,
        })
    }

    /// The digest of the requested offer under a constant id and nonce, so that the same content
    /// has the same digest. Journals hold such digests: the constants never change.
    fn content_digest(&self, request: &PaymentRequest) -> Result<ContentDigest, OfferError> {
        let offer = self.offer_for(request, TransactionId::from_random([0; 16]), [0; 16])?;
        Ok(Sha256::digest(encode_offer(&offer)).into())
    }

    /// The answer to a request under a key that an earlier payment has; none for a new key.
    fn repeated(
        &self,
        key: &IdempotencyKey,
        content: ContentDigest,
        stored: Option<&Payment>,
    ) -> Option<Result<PaymentView, TillRefusal>> {
        let mut payments = self.open.values().map(|open| &open.payment).chain(stored);
        let (payment, earlier) = payments.find_map(|payment| {
            let (used, content) = payment.idempotency.as_ref()?;
            (used == key.as_str()).then_some((payment, *content))
        })?;
        Some(if earlier == content {
            Ok(self.view_or(payment))
        } else {
            Err(TillRefusal::KeyReused(payment.sale_id))
        })
    }

    /// Writes an offer down, and shows it to phones and till once that is durable.
    pub(super) fn open_offer(&mut self, open: OpenPayment) {
        let transaction_id = open.payment.transaction_id;
        self.open.insert(transaction_id, open);
        self.append(transaction_id);
        self.publish(transaction_id);
        self.after_record(transaction_id, Effect::ShowOffer(transaction_id));
    }

    /// A report on the goods, or a cancellation.
    fn settle(
        &mut self,
        transaction_id: TransactionId,
        request: &TillRequest,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        let sale_id = stored.as_ref().map_or(transaction_id, |payment| payment.sale_id);
        let newest = self.newest_of_sale(sale_id);
        let open = self.open.get(&newest);
        if let TillRequest::Complete { dispensed, .. } = request
            && open.is_some_and(OpenPayment::is_taken_there)
        {
            return self.resolve(newest, *dispensed, stored);
        }
        let may_have_left = open.is_none_or(OpenPayment::may_have_left);
        let open = open.map(|open| open.payment.clone());
        let payment = open.or(stored).ok_or(TillRefusal::Unknown(transaction_id))?;
        let (state, is_after_dispense) = (payment.state, payment.capture_after_dispense);
        let next =
            on_till(state, is_after_dispense, may_have_left, request).map_err(|explanation| {
                TillRefusal::WrongState { state: payment.state.name(), explanation }
            })?;
        if let Some(next) = next {
            let transaction_id = payment.transaction_id;
            if let PaymentState::Reversing(_) = next
                && let Some(open) = self.open.get_mut(&transaction_id)
            {
                // The till says that the goods are not out.
                open.payment.released = false;
            }
            self.move_to(transaction_id, next, None);
        }
        Ok(self.view_or(&payment))
    }

    /// Ends a disputed payment as the institution holds it, on a person's word about the goods.
    fn resolve(
        &mut self,
        transaction_id: TransactionId,
        dispensed: bool,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        let open = self.open.get_mut(&transaction_id);
        let payment = open
            .as_ref()
            .map(|open| open.payment.clone())
            .or(stored)
            .ok_or(TillRefusal::Unknown(transaction_id))?;
        let dispute = open.as_ref().and_then(|open| open.dispute.clone());
        let there = dispute.as_ref().and_then(Option::as_ref).map(|proven| proven.state);
        let next = on_resolve(payment.state, dispute.is_some(), there).map_err(|explanation| {
            TillRefusal::WrongState { state: payment.state.name(), explanation }
        })?;
        tracing::warn!(
            %transaction_id, dispensed, next = next.name(),
            "a disputed payment ends on a person's word"
        );
        if let Some(open) = open {
            open.payment.released = dispensed;
            self.move_to(transaction_id, next, dispute.flatten());
        }
        Ok(self.view_or(&payment))
    }

    /// The view of a payment as it is now: the engine's if it is open, the journal's otherwise.
    fn view_or(&self, stored: &Payment) -> PaymentView {
        self.view(stored.sale_id).unwrap_or_else(|| PaymentView::of(stored))
    }
}

/// Why the request becomes no offer. The merchant's name is not the till's.
fn no_offer(error: OfferError) -> TillRefusal {
    if error.field == "merchant_name" {
        TillRefusal::OutOfService(format!(
            "no phone takes the merchant's name in the terminal's certificate ({error}); ask the \
             institution for another name and a code, and run `florin enrol --replace`"
        ))
    } else {
        TillRefusal::Invalid(error)
    }
}
