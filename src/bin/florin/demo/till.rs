//! The till's side of a payment: it offers, releases the goods, and waits for the end.

use anyhow::Context;
use florin::domain::{Amount, TransactionId};
use florin::terminal::{PaymentRequest, PaymentState, PaymentView, TillRefusal, TillRequest};
use florin::till::{TillCall, TillPort};
use tokio::sync::broadcast;

use super::event::Story;

pub(super) struct Till {
    port: TillPort,
    updates: broadcast::Receiver<PaymentView>,
    story: Story,
}

impl Till {
    pub(super) fn new(port: TillPort, story: Story) -> Self {
        Self { updates: port.listen(), port, story }
    }

    /// Offers a payment.
    pub(super) async fn offer(&self, amount: Amount) -> anyhow::Result<TransactionId> {
        let request = TillRequest::Create(PaymentRequest {
            amount,
            reference: "demo".into(),
            items: Vec::new(),
            capture_after_dispense: true,
            valid_for_s: None,
            idempotency_key: None,
        });
        let what = format!("offer {amount}, captured after the release");
        self.story.step("till", "terminal", what, None);
        loop {
            let request = request.clone();
            let view = self.port.call(|answer| TillCall::Request { request, answer }).await?;
            match view {
                // The emulated air takes a moment to be up.
                Err(TillRefusal::OutOfService(_)) => tokio::task::yield_now().await,
                view => return Ok(view?.transaction_id),
            }
        }
    }

    /// Tells whether the till was warned, while the phone paid, that the outcome is not known.
    pub(super) fn tell_pending(&mut self) {
        while let Ok(view) = self.updates.try_recv() {
            if view.state == PaymentState::Unresolved {
                self.story.step("terminal", "till", "pending: do not release".into(), None);
            }
        }
    }

    /// Waits until the payment is final. When it is approved, the goods are released, or cannot
    /// be.
    pub(super) async fn complete(
        &mut self,
        transaction_id: TransactionId,
        dispensed: bool,
    ) -> anyhow::Result<PaymentView> {
        let mut has_reported = false;
        loop {
            let view = self.read(transaction_id).await?;
            if view.state.is_final() {
                self.story.step("terminal", "till", final_state_text(&view), None);
                return Ok(view);
            }
            if view.state == PaymentState::Approved && !has_reported {
                has_reported = true;
                self.report(transaction_id, dispensed).await?;
                continue;
            }
            match self.updates.recv().await {
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => anyhow::bail!("the terminal stopped"),
            }
        }
    }

    /// The payment as the till sees it now.
    pub(super) async fn read(&self, transaction_id: TransactionId) -> anyhow::Result<PaymentView> {
        let read = self.port.call(|answer| TillCall::Read { transaction_id, answer }).await?;
        read.context("the terminal does not know its own payment")
    }

    async fn report(&self, transaction_id: TransactionId, dispensed: bool) -> anyhow::Result<()> {
        self.story.step("terminal", "till", "approved: release the goods".into(), None);
        let report =
            if dispensed { "the goods are released" } else { "the goods could not be released" };
        self.story.step("till", "terminal", report.into(), None);
        let request = TillRequest::Complete { transaction_id, dispensed };
        self.port.call(|answer| TillCall::Request { request, answer }).await??;
        Ok(())
    }
}

/// What the till reads when the payment is final.
fn final_state_text(view: &PaymentView) -> String {
    let name = if view.state == PaymentState::Captured { "paid" } else { view.state.name() };
    let reason = view.state.reason();
    if reason.is_empty() { name.to_owned() } else { format!("{name} ({reason})") }
}
