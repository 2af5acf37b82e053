//! The gRPC service `florin.institution.v1.Administration`: messages in and out, for operators with
//! a client certificate.
//!
//! It reads the clock, and leaves every decision to [`Institution`].
//!
//! [`Institution`]: super::Institution

use tonic::{Request, Response, Status};

use super::certificate_authority::OperatorIdentity;
use super::connection::peer;
use super::operations::{Operation, OperatorOrder, OrderOutcome};
use super::records::{OperatorName, RefundId, TransactionDetail, TransactionKey};
use super::request_fields::read_transaction_id;
use super::request_queue::RequestQueue;
use super::status::status;
use super::wall_clock::unix_time;
use crate::domain::{Amount, TransactionState};
use crate::institution_api as api;
use crate::institution_api::administration_server::Administration;

/// The gRPC service `florin.institution.v1.Administration`.
pub(super) struct AdministrationService {
    pub queue: RequestQueue,
}

impl AdministrationService {
    /// The operator who asks, by the client certificate.
    async fn operator<T>(&self, request: &Request<T>) -> Result<OperatorName, Status> {
        let OperatorIdentity { name, key_digest } = peer(request)?.operator.ok_or_else(|| {
            Status::unauthenticated(
                "this service needs an operator's client certificate; make one with \
                 `florin-acquirer operator add NAME`",
            )
        })?;
        let named = name.clone();
        self.queue
            .run(move |institution| institution.check_operator_key(&named, &key_digest))
            .await
            .map_err(status)?;
        Ok(name)
    }

    async fn operate(
        &self,
        operator: OperatorName,
        order: Option<api::PaymentOrder>,
        operation: impl FnOnce(&TransactionDetail) -> Result<Operation, Status> + Send + 'static,
    ) -> Result<api::OrderOutcome, Status> {
        let order = order.ok_or_else(|| Status::invalid_argument("order: there is none"))?;
        let key = key(&order.transaction_id, &order.terminal_id)?;
        let payment = self.payment(key).await?;
        let (operation, reason) = (operation(&payment)?, order.reason);
        let name = operator.as_str().to_owned();
        let order = OperatorOrder { operator: name, key, operation, reason };
        let outcome = self
            .queue
            .run(move |institution| institution.operate(&order, unix_time()))
            .await
            .map_err(status)?;
        tracing::info!(%operator, transaction = %key.id, terminal = %key.terminal, "an order");
        let outcome = match outcome {
            OrderOutcome::Done(payment) => {
                api::order_outcome::Outcome::Payment(message_of(&payment))
            }
            OrderOutcome::Pending(number) => {
                api::order_outcome::Outcome::Approval(number.unsigned_abs())
            }
        };
        Ok(api::OrderOutcome { outcome: Some(outcome) })
    }

    async fn payment(&self, key: TransactionKey) -> Result<TransactionDetail, Status> {
        let found = self
            .queue
            .run(move |institution| institution.transactions_with_id(key.id))
            .await
            .map_err(status)?;
        let found = found.into_iter().find(|payment| payment.terminal == key.terminal);
        found.ok_or_else(|| {
            Status::not_found(format!("terminal {} has no transaction {}", key.terminal, key.id))
        })
    }
}

#[tonic::async_trait]
impl Administration for AdministrationService {
    async fn get_payment(
        &self,
        request: Request<api::GetPaymentRequest>,
    ) -> Result<Response<api::GetPaymentResponse>, Status> {
        self.operator(&request).await?;
        let message = request.into_inner();
        let payment = self.payment(key(&message.transaction_id, &message.terminal_id)?).await?;
        Ok(Response::new(api::GetPaymentResponse { payment: Some(message_of(&payment)) }))
    }

    async fn capture_payment(
        &self,
        request: Request<api::CapturePaymentRequest>,
    ) -> Result<Response<api::CapturePaymentResponse>, Status> {
        let operator = self.operator(&request).await?;
        let order = request.into_inner().order;
        let outcome = Some(self.operate(operator, order, |_| Ok(Operation::Capture)).await?);
        Ok(Response::new(api::CapturePaymentResponse { outcome }))
    }

    async fn reverse_payment(
        &self,
        request: Request<api::ReversePaymentRequest>,
    ) -> Result<Response<api::ReversePaymentResponse>, Status> {
        let operator = self.operator(&request).await?;
        let order = request.into_inner().order;
        let outcome = Some(self.operate(operator, order, |_| Ok(Operation::Reverse)).await?);
        Ok(Response::new(api::ReversePaymentResponse { outcome }))
    }

    async fn refund_payment(
        &self,
        request: Request<api::RefundPaymentRequest>,
    ) -> Result<Response<api::RefundPaymentResponse>, Status> {
        let operator = self.operator(&request).await?;
        let api::RefundPaymentRequest { order, refund_id, amount_minor } = request.into_inner();
        let id = refund_id.as_slice().try_into().map(RefundId).map_err(|_| {
            let got = refund_id.len();
            Status::invalid_argument(format!("refund_id: expected 16 octets, got {got}"))
        })?;
        let operation = move |payment: &TransactionDetail| {
            Ok(Operation::Refund { id, amount: amount_of(amount_minor, payment)? })
        };
        let outcome = Some(self.operate(operator, order, operation).await?);
        Ok(Response::new(api::RefundPaymentResponse { outcome }))
    }

    async fn write_off_payment(
        &self,
        request: Request<api::WriteOffPaymentRequest>,
    ) -> Result<Response<api::WriteOffPaymentResponse>, Status> {
        let operator = self.operator(&request).await?;
        let order = request.into_inner().order;
        let outcome = Some(self.operate(operator, order, |_| Ok(Operation::WriteOff)).await?);
        Ok(Response::new(api::WriteOffPaymentResponse { outcome }))
    }

    async fn confirm_approval(
        &self,
        request: Request<api::ConfirmApprovalRequest>,
    ) -> Result<Response<api::ConfirmApprovalResponse>, Status> {
        let operator = self.operator(&request).await?;
        let number = i64::try_from(request.into_inner().approval)
            .map_err(|_| Status::invalid_argument("approval: expected a number up to 2^63 - 1"))?;
        let name = operator.as_str().to_owned();
        let payment = self
            .queue
            .run(move |institution| institution.confirm_request(number, &name, unix_time()))
            .await
            .map_err(status)?;
        tracing::info!(%operator, approval = number, "confirmed");
        Ok(Response::new(api::ConfirmApprovalResponse { payment: Some(message_of(&payment)) }))
    }
}

fn key(transaction_id: &[u8], terminal_id: &str) -> Result<TransactionKey, Status> {
    let id = read_transaction_id(transaction_id)?;
    let terminal = terminal_id
        .parse()
        .map_err(|error| Status::invalid_argument(format!("terminal_id: {error}")))?;
    Ok(TransactionKey { terminal, id })
}

/// In the payment's currency; none for 0, and for a payment without an amount, which cannot be
/// refunded anyhow.
fn amount_of(minor: u64, payment: &TransactionDetail) -> Result<Option<Amount>, Status> {
    let Some(paid) = payment.amount.filter(|_| minor > 0) else { return Ok(None) };
    let amount = Amount::new(minor, paid.currency());
    amount.map(Some).map_err(|error| Status::invalid_argument(format!("amount_minor: {error}")))
}

fn message_of(payment: &TransactionDetail) -> api::Payment {
    let amount = payment.amount;
    api::Payment {
        transaction_id: payment.id.as_octets().to_vec(),
        terminal_id: payment.terminal.to_string(),
        merchant_id: payment.merchant_id.clone().unwrap_or_default(),
        state: match payment.state {
            TransactionState::Unknown => api::TransactionState::Unknown,
            TransactionState::Declined(_) => api::TransactionState::Declined,
            TransactionState::Approved => api::TransactionState::Approved,
            TransactionState::Captured => api::TransactionState::Captured,
            TransactionState::Reversed => api::TransactionState::Reversed,
        }
        .into(),
        amount_minor: amount.map_or(0, |amount| amount.minor()),
        currency: amount.map_or_else(String::new, |amount| amount.currency().to_string()),
        refunded_minor: payment.refunded_minor,
        hold_until_unix_s: payment.hold_until.map_or(0, |time| time.seconds),
        is_written_off: payment.written_off_at.is_some(),
    }
}
