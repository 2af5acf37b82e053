//! One payment in one process: the terminal's engine and the wallet's session hand each other
//! values; the institution is a key that signs a receipt.
//!
//! There is no clock, no file and no randomness, so it runs wherever the crate builds. Built for
//! `wasm32-unknown-unknown`, its `main` imports nothing, and returns 0 when the payment is captured
//! and the wallet has verified its receipt:
//!
//! ```text
//! cargo run -p florin-core --features test-support --example payment
//! ```

use std::collections::VecDeque;
use std::process::ExitCode;

use florin_core::domain::{Receipt, TransactionId};
use florin_core::protocol::{decode_offer, digest_offer};
use florin_core::terminal::{
    self, Identity, InstitutionAnswer, InstitutionRequest, Now, PaymentRequest, PaymentState,
    PhoneId, Terminal, TillCallId, TillRequest, TransactionState,
};
use florin_core::wallet::{self, Decision, Reservation, Session, SessionEnd, fixtures};

// `hpke` links a source of randomness that nothing calls: here it would fail.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod no_randomness {
    getrandom::register_custom_getrandom!(refuse);

    fn refuse(_: &mut [u8]) -> Result<(), getrandom::Error> {
        Err(getrandom::Error::UNSUPPORTED)
    }
}

const PHONE: PhoneId = PhoneId(1);
const NOW: Now =
    Now { moment: florin_core::domain::Moment { milliseconds: 0 }, wall: fixtures::NOW };

enum Event {
    AtTerminal(Box<terminal::Input>),
    AtWallet(wallet::Input),
}

struct Payment {
    terminal: Terminal,
    session: Session,
    events: VecDeque<Event>,
    state: Option<PaymentState>,
    end: Option<SessionEnd>,
}

impl Payment {
    fn run() -> Option<Self> {
        let certificate = fixtures::certificate().sign(&fixtures::certificate_key()).encode();
        let identity = Identity::new(certificate, fixtures::channel_key()).ok()?;
        let settings = terminal::Settings::default();
        let (terminal, _) = Terminal::new(identity, settings, [1; 32], Vec::new(), NOW);
        let (session, hello) =
            Session::pay(fixtures::card(), fixtures::settings(), fixtures::seed(2), NOW.moment)
                .ok()?;
        let create = TillRequest::Create(PaymentRequest {
            amount: "2.50 EUR".parse().ok()?,
            reference: "coffee".into(),
            items: Vec::new(),
            capture_after_dispense: false,
            valid_for_s: None,
            idempotency_key: None,
        });
        let mut payment = Self { terminal, session, events: [].into(), state: None, end: None };
        payment.at_terminal(terminal::Input::Till {
            call: TillCallId(1),
            request: create,
            stored: None,
        });
        payment.at_terminal(terminal::Input::PhoneConnected { phone: PHONE, address: None });
        payment.take_from_wallet(hello);
        while let Some(event) = payment.events.pop_front() {
            match event {
                Event::AtTerminal(input) => {
                    let outputs = payment.terminal.handle(NOW, *input);
                    payment.take_from_terminal(outputs);
                }
                Event::AtWallet(input) => {
                    let outputs = payment.session.handle(NOW.moment, input).ok()?;
                    payment.take_from_wallet(outputs);
                }
            }
        }
        Some(payment)
    }

    fn at_terminal(&mut self, input: terminal::Input) {
        self.events.push_back(Event::AtTerminal(Box::new(input)));
    }

    fn at_wallet(&mut self, input: wallet::Input) {
        self.events.push_back(Event::AtWallet(input));
    }

    fn take_from_terminal(&mut self, outputs: Vec<terminal::Output>) {
        for output in outputs {
            match output {
                terminal::Output::Append { record, .. } => {
                    self.at_terminal(terminal::Input::Journalled(record));
                }
                terminal::Output::Notify { value, .. } => {
                    self.at_wallet(wallet::Input::Value(value));
                }
                terminal::Output::Request { request, .. } => {
                    self.at_terminal(answer(&request));
                }
                terminal::Output::Publish(view) => self.state = Some(view.state),
                terminal::Output::Disconnect { .. }
                | terminal::Output::Load { .. }
                | terminal::Output::AnswerTill { .. }
                | terminal::Output::Advertise(_) => {}
            }
        }
    }

    fn take_from_wallet(&mut self, outputs: Vec<wallet::Output>) {
        for output in outputs {
            match output {
                wallet::Output::Write(value) => self.at_terminal(terminal::Input::PhoneWrote {
                    phone: PHONE,
                    value_octets_max: fixtures::settings().value_octets_max,
                    value,
                }),
                wallet::Output::Ask(_) => self.at_wallet(wallet::Input::Decided(Decision::Pay)),
                wallet::Output::Reserve(_) => {
                    self.at_wallet(wallet::Input::Reserved(Reservation::Counter(1)));
                }
                wallet::Output::Store { .. } => self.at_wallet(wallet::Input::Stored),
                wallet::Output::End(end) => self.end = Some(*end),
                wallet::Output::Tell(_) | wallet::Output::Disconnect => {}
            }
        }
    }
}

/// What an institution with money says.
fn answer(request: &InstitutionRequest) -> terminal::Input {
    let (state, receipt) = match request {
        InstitutionRequest::Authorise { offer, transaction_id, .. } => {
            (TransactionState::Approved, approve(offer, *transaction_id))
        }
        InstitutionRequest::Capture { .. } => (TransactionState::Captured, None),
        InstitutionRequest::Inquire { .. } => (TransactionState::Unknown, None),
        InstitutionRequest::Reverse { .. } => (TransactionState::Reversed, None),
    };
    let answer = InstitutionAnswer::Transaction { state, receipt };
    terminal::Input::Institution { transaction_id: request.transaction_id(), answer }
}

fn approve(offer: &[u8], transaction_id: TransactionId) -> Option<Vec<u8>> {
    let amount = decode_offer(offer).ok()?.amount();
    let receipt = Receipt {
        transaction_id,
        offer_digest: digest_offer(offer),
        amount,
        ..fixtures::receipt()
    };
    Some(fixtures::signed_receipt(&receipt))
}

fn main() -> ExitCode {
    let Some(payment) = Payment::run() else { return ExitCode::from(2) };
    let is_proven = matches!(payment.end, Some(SessionEnd::Settled(_)));
    if payment.state == Some(PaymentState::Captured) && is_proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
