//! The timers of payments and phones, and the deadline that they result in.
//!
//! A table of moments. What happens when a timer expires is the engine's business.

use std::fmt;

use super::{PaymentState, PhoneId};
use crate::domain::{Moment, TransactionId};

/// A timer of an open payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// When to end an offer that no phone has paid.
    OfferExpiry,
    /// When to send the next request to the institution: the first in a state, or a retry.
    NextRequest,
    /// When to count the request in flight as unanswered.
    ResponseDue,
    /// When to tell the paying phone once more that its payment is being processed.
    Working,
    /// When to stop waiting for the till to say whether the goods were released.
    DispenseTimeout,
}

impl Timer {
    const ALL: [Self; 5] = [
        Self::OfferExpiry,
        Self::NextRequest,
        Self::ResponseDue,
        Self::Working,
        Self::DispenseTimeout,
    ];
}

impl fmt::Display for Timer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OfferExpiry => "expiry of an offer",
            Self::NextRequest => "next request to the institution",
            Self::ResponseDue => "response of the institution overdue",
            Self::Working => "sign of life to the paying phone",
            Self::DispenseTimeout => "report of the till on the goods overdue",
        })
    }
}

/// The timers of one payment: each is stopped, or set to a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct TimerTable([Option<Moment>; Timer::ALL.len()]);

impl TimerTable {
    pub(super) fn get(&self, timer: Timer) -> Option<Moment> {
        self.0[timer as usize]
    }

    pub(super) fn set(&mut self, timer: Timer, moment: Moment) {
        self.0[timer as usize] = Some(moment);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    pub(super) fn is_due(&self, timer: Timer, now: Moment) -> bool {
        self.get(timer).is_some_and(|moment| moment <= now)
    }

    /// Stops the timer if it is due, and says whether it was.
    pub(super) fn expire(&mut self, timer: Timer, now: Moment) -> bool {
        let is_due = self.is_due(timer, now);
        if is_due {
            self.stop(timer);
        }
        is_due
    }

    /// The timers that are set.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Timer, Moment)> {
        Timer::ALL.into_iter().filter_map(|timer| Some((timer, self.get(timer)?)))
    }
}

/// A timer of a connected phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneTimer {
    /// When to disconnect a phone that says nothing: no hello at first, no message later.
    Silence,
    /// When to disconnect a phone that has not finished the message it began.
    UnfinishedMessage,
    /// When a phone has had its slot so long that one that waits may have it.
    SlotHold,
}

impl fmt::Display for PhoneTimer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Silence => "silence of a phone",
            Self::UnfinishedMessage => "unfinished message of a phone",
            Self::SlotHold => "slot of a phone for one that waits",
        })
    }
}

/// The latest moment at which the engine wants [`Input::Tick`](super::Input::Tick), and its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    pub moment: Moment,
    pub purpose: DeadlinePurpose,
}

/// The timer of a deadline, and whose timer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlinePurpose {
    Payment { transaction_id: TransactionId, state: PaymentState, timer: Timer },
    Phone { phone: PhoneId, timer: PhoneTimer },
}

impl fmt::Display for DeadlinePurpose {
    /// For logs: `next request to the institution (payment 0f1e…, unresolved)`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payment { transaction_id, state, timer } => {
                write!(formatter, "{timer} (payment {transaction_id}, {})", state.name())
            }
            Self::Phone { phone, timer } => write!(formatter, "{timer} (connection {})", phone.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment { milliseconds }
    }

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        let mut timers = TimerTable::default();
        for (timer, milliseconds) in Timer::ALL.into_iter().zip(1..) {
            timers.set(timer, at(milliseconds));
        }
        let expected: Vec<_> = Timer::ALL.into_iter().zip((1..).map(at)).collect();
        assert_eq!(timers.iter().collect::<Vec<_>>(), expected);
        timers.stop(Timer::Working);
        assert!(!timers.is_set(Timer::Working) && timers.is_set(Timer::ResponseDue));
        timers.stop_all();
        assert_eq!(timers.iter().count(), 0);
    }

    #[test]
    fn a_timer_expires_once_and_not_early() {
        let mut timers = TimerTable::default();
        timers.set(Timer::ResponseDue, at(10));
        assert!(!timers.expire(Timer::ResponseDue, at(9)));
        assert!(timers.is_due(Timer::ResponseDue, at(10)));
        assert!(timers.expire(Timer::ResponseDue, at(11)));
        assert!(!timers.expire(Timer::ResponseDue, at(11)));
    }

    #[test]
    fn a_deadline_says_what_it_is_for() {
        let transaction_id = TransactionId::from_random([1; 16]);
        let state = PaymentState::Unresolved;
        let payment = DeadlinePurpose::Payment { transaction_id, state, timer: Timer::NextRequest };
        assert_eq!(
            payment.to_string(),
            format!("next request to the institution (payment {transaction_id}, unresolved)")
        );
        let phone = DeadlinePurpose::Phone { phone: PhoneId(7), timer: PhoneTimer::Silence };
        assert_eq!(phone.to_string(), "silence of a phone (connection 7)");
    }
}
