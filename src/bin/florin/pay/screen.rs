//! What `florin pay` prints: a line for each change, and on a terminal a last line that says what
//! it waits for.

use std::io::{IsTerminal, Write};

use florin::command_line::yes_or_no;
use florin::till::PaymentJson;

use crate::till::{print_json, state};

/// Standard output, for people or for programs.
pub struct Screen {
    is_json: bool,
    is_live: bool,
}

impl Screen {
    /// For programs (JSON), or for people: with a line that moves if this is a terminal.
    pub fn new(is_json: bool) -> Self {
        Self { is_json, is_live: !is_json && std::io::stdout().is_terminal() }
    }

    /// Prints what differs from what was printed before.
    pub fn show(&self, before: Option<&PaymentJson>, payment: &PaymentJson) {
        if before == Some(payment) {
            return;
        }
        self.clear();
        if self.is_json {
            print_json(payment);
            return;
        }
        let is_new_state = before.is_none_or(|before| state(before) != state(payment));
        if is_new_state {
            println!("{:<11}  {}", payment.state, explanation(payment));
            if before.is_none() {
                println!("{:<11}  {}", "", payment.engagement_link);
            }
        }
        for code in &payment.matching_codes {
            if before.is_none_or(|before| !before.matching_codes.contains(code)) {
                println!("{:<11}  a phone sees it, and shows {code}", "");
            }
        }
    }

    /// Says on the last line that the payment is being waited for.
    pub fn progress(&self, payment: &PaymentJson) {
        if self.is_live {
            print!("\r\x1b[K… {} (Ctrl-C cancels)", payment.state);
            let _ = std::io::stdout().flush();
        }
    }

    /// Prints a remark for people.
    pub fn note(&self, text: &str) {
        self.clear();
        if !self.is_json {
            println!("{:<11}  {text}", "");
        }
    }

    fn clear(&self) {
        if self.is_live {
            print!("\r\x1b[K");
            let _ = std::io::stdout().flush();
        }
    }

    /// Asks a person whether the goods were released; none if nobody can be asked.
    pub async fn ask_whether_released(&self) -> Option<bool> {
        if !self.is_live || !std::io::stdin().is_terminal() {
            return None;
        }
        let asking = tokio::task::spawn_blocking(|| {
            loop {
                print!("Were the goods released? [y/n] ");
                let _ = std::io::stdout().flush();
                let mut answer = String::new();
                match std::io::stdin().read_line(&mut answer) {
                    Ok(octets) if octets > 0 => {
                        if let Some(is_yes) = yes_or_no(&answer) {
                            return Some(is_yes);
                        }
                    }
                    Ok(_) | Err(_) => return None,
                }
            }
        });
        asking.await.ok().flatten()
    }
}

/// What a state means, for a person.
fn explanation(payment: &PaymentJson) -> String {
    let reason = payment.reason.as_deref().unwrap_or_default();
    match payment.state.as_str() {
        "offered" => format!("{} is waiting for a phone", payment.amount),
        "authorising" => "a phone pays; the institution is asked".into(),
        "unresolved" => "no answer yet; the person may have been charged: do not release".into(),
        "approved" => "the amount is reserved: release the goods".into(),
        "capturing" if payment.capture == "at_once" => "approved: release the goods".into(),
        "capturing" => "the goods were released; the amount is being taken".into(),
        "captured" => format!("{} paid", payment.amount),
        "reversing" => format!("the amount is being given back ({reason})"),
        "reversed" => format!("nothing is charged ({reason})"),
        "declined" => format!("the institution declined ({reason})"),
        "cancelled" => "the offer was taken back".into(),
        "expired" => "nobody paid in time".into(),
        _ => reason.to_owned(),
    }
}
