//! `florin-acquirer approval`: what one person has asked for and a second one confirms.

use clap::Subcommand;
use florin::command_line::whole_number;
use florin::domain::UnixTime;
use florin::institution::{Institution, OperationRequest};
use serde_json::json;

use crate::operator::OperatorName;
use crate::output::{Item, Output, dash};
use crate::transaction_view::{object, text};

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// List what waits for a second person.
    List {
        /// List what was decided too.
        #[arg(long)]
        all: bool,
    },
    /// Confirm what another person has asked for. It is carried out at once.
    Confirm {
        /// The number of the approval.
        #[arg(value_parser = whole_number::<i64>("", 1..=u64::from(u32::MAX)))]
        approval: i64,
        #[command(flatten)]
        operator: OperatorName,
    },
    /// Refuse what was asked for. It is never carried out.
    Refuse {
        /// The number of the approval.
        #[arg(value_parser = whole_number::<i64>("", 1..=u64::from(u32::MAX)))]
        approval: i64,
        #[command(flatten)]
        operator: OperatorName,
    },
}

/// Runs a command of this group.
pub fn run(
    command: ApprovalCommand,
    mut institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        ApprovalCommand::List { all } => {
            let requests = institution.requests()?;
            let listed = requests.iter().filter(|request| all || request.decision.is_none());
            let headings = ["APPROVAL", "ASKED", "BY", "ACTION", "TRANSACTION", "STATE", "REASON"];
            output.list(&headings, listed.map(item).collect())
        }
        ApprovalCommand::Confirm { approval, operator } => {
            let payment = institution.confirm_request(approval, &operator.resolve()?, now)?;
            output.object(&object(&payment), || text(&payment))
        }
        ApprovalCommand::Refuse { approval, operator } => {
            institution.refuse_request(approval, &operator.resolve()?, now)?;
            output.object(&json!({ "approval": approval, "state": "refused" }), || {
                format!("approval {approval} is refused; nothing was changed")
            })
        }
    }
}

fn state(request: &OperationRequest) -> &'static str {
    match &request.decision {
        None => "waiting",
        Some(decision) if decision.is_confirmed => "confirmed",
        Some(_) => "refused",
    }
}

fn item(approval: &OperationRequest) -> Item {
    let OperationRequest { number, request, decision } = approval;
    let refund = request.action.refund();
    let object = json!({
        "approval": number,
        "requested_at_unix_s": request.requested_at.seconds,
        "requested_by": request.operator,
        "action": request.action.name(),
        "terminal": request.key.terminal.to_string(),
        "transaction": request.key.id.to_string(),
        "refund": refund.map(|(id, _)| id.to_string()),
        "amount_minor": refund.map(|(_, amount)| amount.minor()),
        "currency": refund.map(|(_, amount)| amount.currency().to_string()),
        "reason": request.reason,
        "state": state(approval),
        "decided_at_unix_s": decision.as_ref().map(|decision| decision.decided_at.seconds),
        "decided_by": decision.as_ref().map(|decision| decision.decided_by.clone()),
    });
    let amount = refund.map_or_else(String::new, |(_, amount)| format!(" {amount}"));
    let decided_by = decision.as_ref().map_or_else(dash, |decision| decision.decided_by.clone());
    let row = vec![
        number.to_string(),
        request.requested_at.to_string(),
        request.operator.clone(),
        format!("{}{amount}", request.action.name()),
        request.key.id.to_string(),
        if decision.is_some() {
            format!("{} by {decided_by}", state(approval))
        } else {
            state(approval).to_owned()
        },
        request.reason.clone(),
    ];
    (object, row)
}
