//! The engine's bounds and times, each with its reason.

/// What becomes of an approved payment of which the till never says whether the goods were
/// released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispensePolicy {
    /// It is given back: who stands before a machine that fell over must not pay for nothing.
    Reverse,
    /// It waits for the till or an operator to say it: for goods that are worth more than a
    /// person's trust.
    Hold,
}

/// How the engine behaves. [`Settings::default`] is what a terminal starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a phone has to pay an offer where the till does not say, in seconds, 1 to 3600.
    pub valid_for_s: u32,
    /// How long an authorisation may take before it counts as unanswered, in milliseconds. A
    /// person waits this long.
    pub authorisation_timeout_ms: u64,
    /// How long any other request to the institution may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// A sign of life to the phone that waits for its result, in milliseconds. Wallets give up
    /// after some silence; the protocol promises one every 2 s.
    pub working_interval_ms: u64,
    /// The first wait before a request to the institution is made again, in milliseconds. It
    /// doubles each time.
    pub retry_backoff_min_ms: u64,
    /// The longest such wait, in milliseconds.
    pub retry_backoff_max_ms: u64,
    /// How many requests about older payments run at once, so that a long queue does not flood the
    /// institution.
    pub background_requests_max: usize,
    /// How long the till may take after an approval to say what became of the goods, in
    /// milliseconds, counted anew from a restart: the longest that a machine takes to release
    /// something, and to start again.
    pub dispense_timeout_ms: u64,
    /// What happens when that time is over.
    pub dispense_policy: DispensePolicy,
    /// From which age an open payment is a person's business, in seconds. It is tried on, for
    /// ever.
    pub escalate_after_s: u64,
    /// How many payments may be open before new ones are refused. Each holds a few KiB.
    pub open_max: usize,
    /// How many phones are served at once, 1 to 64: one less than the controller can hold, so that
    /// a newcomer always finds a free connection and the rule of who leaves can be applied. No
    /// controller says how many it holds; 8 is common.
    pub phones_max: usize,
    /// How long a phone keeps its place at least, in milliseconds, when there is no room for a
    /// newcomer. Most people pay within it.
    pub stay_min_ms: u64,
    /// How long a connected phone may take to its hello, in milliseconds. Set-up takes 3 s at
    /// worst.
    pub hello_timeout_ms: u64,
    /// How long a phone may stay without saying anything, in milliseconds: reading an offer takes
    /// a minute or two.
    pub silence_timeout_ms: u64,
    /// How long a phone may take to one message, in milliseconds: a longest command in values of
    /// 20 octets, each written with response over a slow connection, takes 15 s.
    pub message_timeout_ms: u64,
    /// How many values one connection may write in a burst: a longest message in values of 20
    /// octets is 863.
    pub values_burst_max: u32,
    /// How many values one connection may write a second in the long run. A payment takes under 50
    /// of the shortest.
    pub values_per_s: u32,
    /// How many messages one connection may say in a burst. Any may mean a search of the journal.
    pub messages_burst_max: u32,
    /// How many messages one connection may say a second in the long run.
    pub messages_per_s: u32,
    /// How many hellos one connection may say. Each costs two key agreements.
    pub hellos_max: u32,
    /// How many errors one connection may cause before it is ended.
    pub faults_max: u32,
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
            phones_max: 7,
            stay_min_ms: 20_000,
            hello_timeout_ms: 15_000,
            silence_timeout_ms: 180_000,
            message_timeout_ms: 30_000,
            values_burst_max: 1_024,
            values_per_s: 256,
            messages_burst_max: 128,
            messages_per_s: 32,
            hellos_max: 16,
            faults_max: 8,
        }
    }
}
