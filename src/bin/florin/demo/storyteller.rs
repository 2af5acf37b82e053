//! The person with the phone: watches the screen, always says yes, and tells what it saw.

use std::pin::Pin;
use std::time::{Duration, Instant};

use florin::wallet::{Cardholder, Decision, Notice, OfferView};

use super::event::Story;
use super::silent_proxy::SilentProxy;

pub(super) struct Storyteller {
    story: Story,
    silence: Option<SilentProxy>,
    round_trips: u32,
    has_spoken: bool,
    hello_at: Option<Instant>,
    hello_to_result: Option<Duration>,
}

impl Storyteller {
    /// Where the institution fell silent, it speaks again when the person has read "pending".
    pub(super) fn new(story: Story, silence: Option<SilentProxy>) -> Self {
        Self {
            story,
            silence,
            round_trips: 0,
            has_spoken: false,
            hello_at: None,
            hello_to_result: None,
        }
    }

    /// Answers that the phone waited for.
    pub(super) fn round_trips(&self) -> u32 {
        self.round_trips
    }

    /// From the first word to the first result.
    pub(super) fn hello_to_result(&self) -> Option<Duration> {
        self.hello_to_result
    }
}

impl Cardholder for Storyteller {
    fn tell(&mut self, notice: &Notice) {
        match notice {
            Notice::MessageSent { message, octets } => {
                self.has_spoken = true;
                self.hello_at.get_or_insert_with(Instant::now);
                self.story.step("wallet", "terminal", described(message), Some(*octets));
            }
            Notice::MessageReceived { message, octets } => {
                if std::mem::take(&mut self.has_spoken) {
                    self.round_trips += 1;
                }
                if *message == "result" && self.hello_to_result.is_none() {
                    self.hello_to_result = self.hello_at.map(|at| at.elapsed());
                }
                self.story.step("terminal", "wallet", described(message), Some(*octets));
            }
            Notice::NothingToPay
            | Notice::CommandSent
            | Notice::Working
            | Notice::Unproven(_)
            | Notice::Reserved(_) => {}
            Notice::Pending => {
                self.story.note("the phone says: not known yet whether it was paid");
                if let Some(proxy) = self.silence.take() {
                    proxy.resume();
                    self.story.note("the way to the institution is open again");
                }
            }
        }
    }

    fn ask(&mut self, offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>> {
        let what = format!(
            "{}, {}, matching code {}: the person consents",
            offer.offer.merchant_name(),
            offer.offer.amount(),
            offer.matching_code
        );
        self.story.step("wallet", "person", what, None);
        Box::pin(std::future::ready(Decision::Pay))
    }
}

/// What is in a message, for a person.
fn described(message: &str) -> String {
    match message {
        "offer" => "the offer, with the terminal's certificate".to_owned(),
        "payment_command" => {
            "the command: signed by the card, sealed to the institution".to_owned()
        }
        "result" => "the result".to_owned(),
        "receipt_ack" => "the receipt is verified and stored".to_owned(),
        "result_query" => "what became of my payment?".to_owned(),
        other => other.replace('_', " "),
    }
}
