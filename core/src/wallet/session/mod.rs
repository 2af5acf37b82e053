//! One conversation of the wallet with a terminal, without a radio, a clock, a file or a source of
//! randomness.
//!
//! [`Session::handle`] takes what happened and says what to do. Two round trips: hello and its
//! answer with the offer; command and its result. The command leaves only after its record and the
//! card's counter are on disk ([`Output::Store`], then [`Input::Stored`]), and it leaves at most
//! once in a session.
//!
//! ```text
//! pay:  AwaitingAnswer ── nothing to pay ──> AwaitingOffer ──┐
//!            └────────────────── offer ──────────────────────┴─> AwaitingDecision
//!       ── pay ──> AwaitingReservation ── counter ──> AwaitingStore
//!       ── stored, command sent ──> AwaitingResult ──> AwaitingLastStore ──> Ended
//! ask:  AwaitingAnswer ── query sent ──> AwaitingResult ──> AwaitingLastStore ──> Ended
//! ```

mod check;
mod conversation;
mod exchange;
mod line;

pub use conversation::Session;
pub use exchange::{
    Decision, Input, InputRefusal, Notice, OfferView, Output, Reservation, SessionSeed,
    SessionSettings,
};

#[cfg(test)]
mod tests;
