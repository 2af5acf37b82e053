//! What can go wrong, how often in this world, and what of it is left out.
//!
//! Every occasion has a place (its kind and its number), so that one occurrence can be left out and
//! the rest stays.

use std::collections::BTreeSet;

use super::randomness::Dice;

macro_rules! fault_kinds {
    ($($(#[doc = $what:literal])+ $kind:ident = $rate:literal $name:literal,)+) => {
        /// One kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind { $($(#[doc = $what])+ $kind,)+ }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// For people and programs: lower case, words joined by underscores.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// How often it happens in a middling world, in a million occasions.
            fn rate(self) -> u64 {
                match self { $(Self::$kind => $rate,)+ }
            }
        }
    };
}

fault_kinds! {
    /// A connection breaks at a value: it and all later ones are lost.
    LinkBreaks = 8_000 "link_breaks",
    /// A phone does not get a connection.
    ConnectionFails = 60_000 "connection_fails",
    /// The terminal's link is behind and drops a value.
    ValueDropped = 3_000 "value_dropped",
    /// A phone is gone as soon as its command is sent.
    PhoneVanishes = 80_000 "phone_vanishes",
    /// The wallet's process dies at an output.
    WalletCrashes = 6_000 "wallet_crashes",
    /// The wallet's store does not take a record.
    WalletStoreFails = 8_000 "wallet_store_fails",
    /// A phone's wall clock jumps.
    PhoneClockJumps = 20_000 "phone_clock_jumps",
    /// The terminal's process dies at an input or an output.
    TerminalCrashes = 4_000 "terminal_crashes",
    /// The terminal's process hangs.
    TerminalStalls = 3_000 "terminal_stalls",
    /// The terminal's wall clock jumps.
    TerminalClockJumps = 4_000 "terminal_clock_jumps",
    /// A write to the journal takes long.
    JournalSlow = 15_000 "journal_slow",
    /// A write to the journal fails, or its sync: the terminal is out of service until the disk
    /// works again.
    JournalWriteFails = 10_000 "journal_write_fails",
    /// A read of the journal fails: likewise.
    JournalReadFails = 4_000 "journal_read_fails",
    /// The institution cannot be reached for a while: nothing is sent.
    NotSent = 50_000 "not_sent",
    /// A request is lost.
    RequestLost = 50_000 "request_lost",
    /// A request arrives after its time-out.
    RequestLate = 60_000 "request_late",
    /// A request arrives twice.
    RequestDuplicated = 80_000 "request_duplicated",
    /// An answer is lost.
    AnswerLost = 60_000 "answer_lost",
    /// An answer arrives after the time-out.
    AnswerLate = 40_000 "answer_late",
    /// An answer comes without its proofs.
    AnswerUnproven = 15_000 "answer_unproven",
    /// The relay says nothing at all.
    RelaySilent = 15_000 "relay_silent",
    /// The institution's process dies before it does what it was asked.
    InstitutionCrashesBefore = 20_000 "institution_crashes_before",
    /// The institution's process dies after it did what it was asked.
    InstitutionCrashesAfter = 25_000 "institution_crashes_after",
    /// The institution's store fails, so that nothing is done.
    InstitutionStoreFails = 12_000 "institution_store_fails",
    /// The institution refuses every request for a while.
    InstitutionRefuses = 12_000 "institution_refuses",
    /// The institution's wall clock jumps.
    InstitutionClockJumps = 8_000 "institution_clock_jumps",
    /// Somebody with a terminal's certificate presents a command again for another offer.
    CommandPresentedAgain = 60_000 "command_presented_again",
    /// The till cancels whatever it has.
    TillCancels = 15_000 "till_cancels",
    /// The till completes without reason, or against its own word.
    TillContradicts = 15_000 "till_contradicts",
    /// The till makes the same request again.
    TillRepeats = 20_000 "till_repeats",
    /// The till uses a key again for other content.
    TillReusesKey = 10_000 "till_reuses_key",
    /// The till asks for what makes no sense.
    TillAsksNonsense = 10_000 "till_asks_nonsense",
    /// The till's process dies before a call, or at an answer; it reads again after.
    TillCrashes = 4_000 "till_crashes",
    /// The till never says what became of the goods.
    TillSaysNothing = 30_000 "till_says_nothing",
    /// An answer to the till is lost.
    TillAnswerLost = 20_000 "till_answer_lost",
    /// An update does not reach the till.
    TillUpdateLost = 60_000 "till_update_lost",
}

/// One occasion: the kind, and how many occasions of it there were before.
pub type Occasion = (FaultKind, u64);

/// What is left out of a world, to see whether it matters.
#[derive(Debug, Clone, Default)]
pub struct LeftOut {
    /// Whole kinds.
    pub kinds: BTreeSet<FaultKind>,
    /// Single occurrences.
    pub occasions: BTreeSet<Occasion>,
}

/// The faults of one world.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    rates: Vec<u64>,
    occasions: Vec<u64>,
    left_out: LeftOut,
    is_stopped: bool,
    /// What happened, in order.
    pub happened: Vec<Occasion>,
}

impl Faults {
    /// The faults of the world with this seed: some kinds, each more or less often. None in a calm
    /// world.
    pub fn new(seed: u64, is_calm: bool, left_out: LeftOut) -> Self {
        let mut dice = Dice::of(&[seed, 0xfa17]);
        let share_percent = dice.between(10, 90);
        let rates = FaultKind::ALL
            .iter()
            .map(|kind| {
                // Drawn in any case, so that leaving a kind out does not shift the next.
                let (is_on, strength) = (dice.percent(share_percent), dice.below(3));
                let is_out = is_calm || !is_on || left_out.kinds.contains(kind);
                if is_out { 0 } else { kind.rate() * [4, 12, 40][strength as usize] / 12 }
            })
            .collect();
        let occasions = vec![0; FaultKind::ALL.len()];
        Self { seed, rates, occasions, left_out, is_stopped: false, happened: Vec::new() }
    }

    /// From now on nothing goes wrong any more.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether it happens on this occasion; if so, dice for how.
    pub fn happens(&mut self, kind: FaultKind) -> Option<Dice> {
        let rate = self.rates[kind as usize];
        if rate == 0 || self.is_stopped {
            return None;
        }
        let number = self.occasions[kind as usize];
        self.occasions[kind as usize] += 1;
        let mut dice = Dice::of(&[self.seed, kind as u64, number]);
        if dice.below(1_000_000) >= rate || self.left_out.occasions.contains(&(kind, number)) {
            return None;
        }
        self.happened.push((kind, number));
        Some(dice)
    }
}
