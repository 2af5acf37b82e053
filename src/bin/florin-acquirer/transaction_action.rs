//! What operators do to payments: `florin-acquirer transaction capture`, `reverse`, `refund` and
//! `write-off`.

use clap::Args;
use florin::command_line::transaction_id;
use florin::domain::{TransactionId, UnixTime};
use florin::institution::{
    Institution, InstitutionError, Operation, OperatorOrder, OrderOutcome, RefundId,
    TransactionDetail, TransactionKey, random,
};
use serde_json::{Value, json};

use crate::failure::NotFound;
use crate::operator::OperatorName;
use crate::output::Output;
use crate::transaction_view::{object, text};
use crate::typed::{self, TerminalName};

/// Which payment.
#[derive(Debug, Args)]
pub struct PaymentName {
    /// The payment's id, a UUID.
    #[arg(value_parser = transaction_id)]
    transaction: TransactionId,
    /// The terminal, if several have a payment with this id: its id, or its short code.
    #[arg(long)]
    terminal: Option<TerminalName>,
}

impl PaymentName {
    /// Finds the payment.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`NotFound`] if several terminals have one.
    pub fn find(&self, institution: &mut Institution) -> anyhow::Result<TransactionDetail> {
        let terminal = match &self.terminal {
            Some(name) => Some(name.find(institution)?),
            None => None,
        };
        let mut found = institution.transactions_with_id(self.transaction)?;
        found.retain(|payment| terminal.is_none_or(|terminal| payment.terminal == terminal));
        if found.len() > 1 {
            let terminals: Vec<_> =
                found.iter().map(|payment| payment.terminal.to_string()).collect();
            let message = format!(
                "several terminals have a transaction {}: add --terminal with one of {}",
                self.transaction,
                terminals.join(", ")
            );
            return Err(NotFound(message).into());
        }
        let id = self.transaction.to_string();
        let missing = InstitutionError::NotFound { what: "transaction", id };
        found.pop().ok_or_else(|| missing.into())
    }
}

/// Which payment, who, and why.
#[derive(Debug, Args)]
pub struct ActionArguments {
    #[command(flatten)]
    payment: PaymentName,
    /// Why, for the audit log: one line.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    operator: OperatorName,
}

/// What of a captured payment to give back.
#[derive(Debug, Args)]
pub struct RefundArguments {
    #[command(flatten)]
    action: ActionArguments,
    /// How much, in major units of the payment's currency [default: all that is left].
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    amount: Option<String>,
    /// The refund's own id, a UUID. The same id gives back once, however often the command runs
    /// [default: a new one].
    #[arg(long, value_name = "UUID", value_parser = refund_id)]
    refund_id: Option<RefundId>,
}

fn refund_id(text: &str) -> Result<RefundId, String> {
    RefundId::parse(text).ok_or_else(|| "expected a whole UUID".to_owned())
}

/// Captures, reverses or writes off a payment.
pub fn end(
    arguments: ActionArguments,
    operation: Operation,
    institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    carry_out(arguments, |_| Ok(operation), institution, now, output)
}

/// Gives back what was captured, or a part of it.
pub fn refund(
    arguments: RefundArguments,
    institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    let RefundArguments { action, amount, refund_id } = arguments;
    let id = match refund_id {
        Some(id) => id,
        None => RefundId::from_random(*random()?),
    };
    let operation = |payment: &TransactionDetail| {
        let amount = match (amount, payment.amount) {
            (Some(text), Some(paid)) => Some(typed::amount(&text, paid.currency(), "--amount")?),
            (_, _) => None,
        };
        Ok(Operation::Refund { id, amount })
    };
    carry_out(action, operation, institution, now, output)
}

fn carry_out(
    arguments: ActionArguments,
    operation: impl FnOnce(&TransactionDetail) -> anyhow::Result<Operation>,
    mut institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    let ActionArguments { payment, reason, operator } = arguments;
    let operator = operator.resolve()?;
    let found = payment.find(&mut institution)?;
    let operation = operation(&found)?;
    let key = TransactionKey { terminal: found.terminal, id: found.id };
    let refund_id = refund_of(&operation);
    let order = OperatorOrder { operator, key, operation, reason };
    match institution.operate(&order, now)? {
        OrderOutcome::Done(payment) => {
            let object = with_refund(object(&payment), refund_id.as_deref());
            output.object(&object, || {
                let refund = refund_id.map(|id| format!("\nrefund         {id}"));
                format!("{}{}", text(&payment), refund.unwrap_or_default())
            })
        }
        OrderOutcome::Pending(number) => {
            let pending = json!({ "approval": number, "transaction": found.id.to_string() });
            let object = with_refund(pending, refund_id.as_deref());
            output.object(&object, || {
                format!(
                    "approval {number} waits: another person has to run `florin-acquirer approval \
                     confirm {number}`; nothing was changed yet"
                )
            })
        }
    }
}

fn refund_of(operation: &Operation) -> Option<String> {
    match operation {
        Operation::Refund { id, .. } => Some(id.to_string()),
        Operation::Capture | Operation::Reverse | Operation::WriteOff => None,
    }
}

fn with_refund(mut object: Value, refund_id: Option<&str>) -> Value {
    if let Some(id) = refund_id {
        object["refund"] = id.into();
    }
    object
}
