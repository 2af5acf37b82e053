//! The engine's limits and times, each with its reason.
//!
//! Values only. The service reads them from the configuration, which has fewer keys than there are
//! fields here, and checks their ranges there.

/// What becomes of an approved payment if the till never reports whether the goods were released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispensePolicy {
    /// The payment is reversed: nobody pays for goods that a broken machine did not release.
    Reverse,
    /// The payment waits until the till or an operator reports: for goods that are worth more than
    /// a person's trust.
    Hold,
}

/// How the engine behaves. A terminal starts from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long an offer is good for if the till does not say, in seconds, 1 to 3600.
    pub valid_for_s: u32,
    /// Time-out of an authorisation with all its retries, in milliseconds, after which the payment
    /// counts as unanswered. A person waits for it.
    pub authorisation_timeout_ms: u64,
    /// Time-out of any other request to the institution, in milliseconds.
    pub request_timeout_ms: u64,
    /// Interval between messages to the paying phone that its payment is being processed, in
    /// milliseconds. Wallets give up after some silence; the protocol promises one every 2 s.
    pub working_interval_ms: u64,
    /// The first retry backoff of a request to the institution, in milliseconds. It doubles with
    /// each attempt.
    pub retry_backoff_min_ms: u64,
    /// The longest retry backoff of a request to the institution, in milliseconds.
    pub retry_backoff_max_ms: u64,
    /// The most requests about older payments that are in flight at once. The limit keeps a long
    /// queue from flooding the institution.
    pub background_requests_max: usize,
    /// How long the till may take after an approval to report whether the goods were released, in
    /// milliseconds: the longest time in which a machine releases goods and starts again. Starts
    /// anew when the terminal is restarted.
    pub dispense_timeout_ms: u64,
    /// What happens when the till has not reported in that time.
    pub dispense_policy: DispensePolicy,
    /// Age after which an open payment is escalated to an operator, in seconds; retries continue.
    pub escalate_after_s: u64,
    /// The most payments that may be open; further ones are refused. Each takes a few KiB of
    /// memory.
    pub open_max: usize,
    /// How often a sale is offered again after a command without a card. Somebody who sends such
    /// commands under ever new device addresses ends the sale all the same.
    pub reoffers_max: u32,
    /// The most offers of all sales that are made again in a burst. Each takes a request to the
    /// institution and three records of the journal.
    pub reoffers_burst_max: u32,
    /// The most offers a second that are made again in the long run.
    pub reoffers_per_s: u32,
    /// The most phones that are connected at once, 1 to 64. It must be one less than the controller
    /// supports, so that a newcomer can connect and the engine can choose which phone leaves. No
    /// controller reports its limit; 8 is common.
    pub phones_max: usize,
    /// The most newcomers that wait, connected, for the slot of a phone that has not said hello. A
    /// controller that carries one phone more than there are slots lets one wait.
    pub waiting_max: usize,
    /// How long a phone that has not finished a hello keeps its slot at least when a newcomer needs
    /// one, in milliseconds.
    pub silent_hold_min_ms: u64,
    /// How long a phone that has said hello keeps its slot at least when a newcomer needs one, in
    /// milliseconds. Most people pay within this time.
    pub slot_hold_min_ms: u64,
    /// How long a device address is held off after a command without a card, or after a bound on
    /// numbers was exceeded, in milliseconds. It doubles with each time.
    pub hold_off_min_ms: u64,
    /// The longest time for which an address is held off, in milliseconds.
    pub hold_off_max_ms: u64,
    /// How long a connected phone may take to say hello, in milliseconds. Connecting takes 3 s at
    /// worst.
    pub hello_timeout_ms: u64,
    /// How long a phone may be silent after its hello, in milliseconds. Reading an offer takes a
    /// minute or two.
    pub silence_timeout_ms: u64,
    /// How long a phone may take to write one message, in milliseconds. The longest command, in
    /// values of 20 octets that are written with response over a slow connection, takes 15 s.
    pub message_timeout_ms: u64,
    /// The most values that one connection may write in a burst. The longest message has 863 values
    /// of 20 octets.
    pub values_burst_max: u32,
    /// The most values a second that one connection may write in the long run. A payment takes
    /// fewer than 50 of the shortest.
    pub values_per_s: u32,
    /// The most messages that one connection may send in a burst. Each may cause a search of the
    /// journal.
    pub messages_burst_max: u32,
    /// The most messages a second that one connection may send in the long run.
    pub messages_per_s: u32,
    /// The most hellos that one connection may send. Each costs two key agreements.
    pub hellos_max: u32,
    /// The number of protocol errors after which a connection is ended.
    pub protocol_errors_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            valid_for_s: 120,
            authorisation_timeout_ms: 10_000,
            request_timeout_ms: 10_000,
            working_interval_ms: 1_500,
            retry_backoff_min_ms: 1_000,
            retry_backoff_max_ms: 300_000,
            background_requests_max: 4,
            dispense_timeout_ms: 600_000,
            dispense_policy: DispensePolicy::Reverse,
            escalate_after_s: 86_400,
            open_max: 2_000,
            reoffers_max: 8,
            reoffers_burst_max: 32,
            reoffers_per_s: 1,
            phones_max: 7,
            waiting_max: 16,
            silent_hold_min_ms: 2_000,
            slot_hold_min_ms: 20_000,
            hold_off_min_ms: 10_000,
            hold_off_max_ms: 300_000,
            hello_timeout_ms: 15_000,
            silence_timeout_ms: 180_000,
            message_timeout_ms: 30_000,
            values_burst_max: 1_024,
            values_per_s: 256,
            messages_burst_max: 128,
            messages_per_s: 32,
            hellos_max: 16,
            protocol_errors_max: 8,
        }
    }
}
