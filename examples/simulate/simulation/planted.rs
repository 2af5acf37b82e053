//! Bugs that can be planted around the engine, the wallet and the institution, to see that the
//! simulator finds them.
//!
//! None of them is in the parties' own code: each is done by what surrounds them here, in a world
//! that is run for it.

macro_rules! planted_bugs {
    ($($(#[doc = $what:literal])+ $bug:ident $name:literal $text:literal,)+) => {
        /// One bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum PlantedBug { $($(#[doc = $what])+ $bug,)+ }

        impl PlantedBug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];

            /// For people and programs: lower case, words joined by underscores.
            pub fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)+ }
            }

            /// In words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$bug => $text,)+ }
            }
        }
    };
}

planted_bugs! {
    /// The journal confirms before the record is durable.
    EffectBeforeJournal "effect_before_journal" "effects come before the journal",
    /// A failed write counts as done.
    WriteErrorIgnored "write_error_ignored" "a failed write to the journal counts as done",
    /// The journal loses the newest record that it had confirmed.
    ConfirmedRecordLost "confirmed_record_lost"
        "the journal loses its newest confirmed record in a crash",
    /// An authorisation without an answer is tried again under a new transaction id.
    RetryUnderNewId "retry_under_new_id"
        "a request without an answer is tried again under a new id",
    /// "I do not know it" counts as "reversed".
    UnknownIsNotCharged "unknown_is_not_charged" "an unknown transaction counts as reversed",
    /// A payment that is being reversed is forgotten at a restart.
    ReversalDroppedAtRestart "reversal_dropped_at_restart" "reversals are dropped at a restart",
    /// A payment that is being authorised counts as an offer at a restart.
    AuthorisingExpiresAtRestart "authorising_expires_at_restart"
        "an authorisation counts as an offer at a restart",
    /// A capture is reported done without being sent.
    CaptureNotSent "capture_not_sent" "captures are reported done without being sent",
    /// A reversal is reported done without being sent.
    ReversalNotSent "reversal_not_sent" "reversals are reported done without being sent",
    /// The institution takes the money again when a capture is repeated.
    CapturedTwice "captured_twice" "a repeated capture takes the money again",
    /// The institution keeps no tombstone for what it never saw.
    TombstoneForgotten "tombstone_forgotten" "a reversal of an unknown id leaves no tombstone",
    /// The card's counter stands still.
    CounterNotAdvanced "counter_not_advanced" "the card's counter is not advanced",
    /// A late approval tells the till to release.
    LateApprovalReleases "late_approval_releases" "a late approval releases the goods",
    /// The till is told to release for another payment.
    OtherPaymentReleased "other_payment_released" "the till is told to release for another payment",
    /// The till reads the engine's own state, ahead of the journal.
    TillReadsEngine "till_reads_engine" "the till reads the engine instead of what is durable",
    /// The till's "could not be released" arrives as "released".
    FailedReleaseIsCaptured "failed_release_is_captured" "a failed release is captured",
    /// The offer is over another amount than the till asked for.
    OfferedForLess "offered_for_less" "the offer is over another amount than the till's",
    /// The till's idempotency key is not found again.
    KeyNotFound "key_not_found" "an idempotency key is not found again",
    /// A capture waits for the till's word, and comes without it.
    CapturedWithoutWord "captured_without_word" "goods that nobody spoke of are captured",
    /// The institution books a capture on another day.
    BookedOnAnotherDay "booked_on_another_day" "the institution books captures on another day",
    /// A person whose payment is pending is told that nothing is charged.
    PendingIsNotCharged "pending_is_not_charged" "a pending payment is told as not charged",
    /// A person is told another person's end.
    ToldToAnotherPhone "told_to_another_phone" "a person is told another person's end",
}

impl PlantedBug {
    /// The bug of that name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|bug| bug.name()).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}
