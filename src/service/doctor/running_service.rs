//! Whether a service runs, and what it says of itself.

use super::super::{Configuration, ServiceExit};
use super::Finding;
use crate::plural::counted;
use crate::till::{StatusJson, TillClient, TillClientError};

const CHECK: &str = "service";

pub(super) async fn examine(configuration: &Configuration) -> (Finding, Option<StatusJson>) {
    match TillClient::new(configuration.till_address.clone()).status().await {
        Ok(status) => (status_finding(&status), Some(status)),
        Err(TillClientError::Unreachable { address, detail }) => (
            Finding::advice(
                CHECK,
                format!(
                    "no service runs, or this user may not use {address} ({detail}); start it: \
                     `systemctl start florin`"
                ),
            ),
            None,
        ),
        Err(
            error @ (TillClientError::Lost(_)
            | TillClientError::Refused { .. }
            | TillClientError::Foreign { .. }),
        ) => (Finding::wrong(CHECK, error.to_string(), ServiceExit::Till), None),
    }
}

fn status_finding(status: &StatusJson) -> Finding {
    let open = counted(status.open_payments as u64, "payment is open", "payments are open");
    match &status.reason {
        None => Finding::fine(
            CHECK,
            format!("version {} runs and is in service; {open}", status.version),
        ),
        Some(reason) => Finding::wrong(
            CHECK,
            format!("it runs and is out of service: {reason}"),
            ServiceExit::Other,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_open_payments_agrees_with_its_noun() {
        for (open_payments, words) in
            [(0, "; 0 payments are open"), (1, "; 1 payment is open"), (2, "; 2 payments are open")]
        {
            let status = StatusJson {
                terminal_id: "t".into(),
                short_code: "t".into(),
                in_service: true,
                reason: None,
                engagement_link: "l".into(),
                open_payments,
                oldest_open_s: 0,
                escalated: Vec::new(),
                version: "0".into(),
            };
            let finding = status_finding(&status);
            assert!(finding.detail.ends_with(words), "{}", finding.detail);
        }
    }
}
