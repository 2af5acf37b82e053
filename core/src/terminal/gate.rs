//! The journal's gate: holds back the effects of a payment until the journal has confirmed the
//! record on which they rest.
//!
//! It numbers records and keeps effects in order. It does not write records and does not carry out
//! effects; both are the engine's business.

use std::collections::VecDeque;

use super::RecordNumber;

/// The newest record, the newest confirmed record, and the effects that wait for one.
#[derive(Debug)]
pub(super) struct Gate<E> {
    last: RecordNumber,
    confirmed: RecordNumber,
    /// Each with the record that it waits for, in the order in which they were decided.
    withheld: VecDeque<(RecordNumber, E)>,
}

impl<E> Gate<E> {
    pub(super) fn new() -> Self {
        Self {
            last: RecordNumber::default(),
            confirmed: RecordNumber::default(),
            withheld: VecDeque::new(),
        }
    }

    /// The number of a record that is appended to the journal now.
    pub(super) fn append(&mut self) -> RecordNumber {
        self.last = RecordNumber(self.last.0 + 1);
        self.last
    }

    pub(super) fn is_confirmed(&self, record: RecordNumber) -> bool {
        record <= self.confirmed
    }

    /// Returns the effect if the journal has confirmed `record`; keeps it otherwise.
    #[must_use]
    pub(super) fn hold(&mut self, effect: E, record: RecordNumber) -> Option<E> {
        if self.is_confirmed(record) {
            return Some(effect);
        }
        self.withheld.push_back((record, effect));
        None
    }

    /// Takes note that the journal holds every record up to and including this one. Returns the
    /// effects that waited for nothing else, in the order in which they were decided.
    #[must_use]
    pub(super) fn confirm(&mut self, record: RecordNumber) -> Vec<E> {
        // A record that was never appended cannot be confirmed in advance.
        self.confirmed = self.confirmed.max(record.min(self.last));
        let mut released = Vec::new();
        for (record, effect) in std::mem::take(&mut self.withheld) {
            if self.is_confirmed(record) {
                released.push(effect);
            } else {
                self.withheld.push_back((record, effect));
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAYMENTS: usize = 3;

    #[derive(Debug, Clone)]
    enum Step {
        /// A payment gets a new record.
        Append(usize),
        /// An effect rests on a payment's newest record.
        Hold(usize),
        /// The journal confirms so many records, or says so.
        Confirm(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..PAYMENTS).prop_map(Step::Append),
            (0..PAYMENTS).prop_map(Step::Hold),
            (0u64..40).prop_map(Step::Confirm),
        ]
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Effect {
        payment: usize,
        /// Its place among all effects.
        number: usize,
        record: RecordNumber,
    }

    /// What went in and what came out.
    struct Ledger {
        gate: Gate<Effect>,
        newest: [RecordNumber; PAYMENTS],
        appended: RecordNumber,
        confirmed: RecordNumber,
        held: Vec<Effect>,
        released: Vec<Effect>,
    }

    impl Ledger {
        fn new() -> Self {
            Self {
                gate: Gate::new(),
                newest: [RecordNumber::default(); PAYMENTS],
                appended: RecordNumber::default(),
                confirmed: RecordNumber::default(),
                held: Vec::new(),
                released: Vec::new(),
            }
        }

        fn take(&mut self, step: &Step) {
            let released = match *step {
                Step::Append(payment) => {
                    self.appended = self.gate.append();
                    self.newest[payment] = self.appended;
                    Vec::new()
                }
                Step::Hold(payment) => {
                    let record = self.newest[payment];
                    let effect = Effect { payment, number: self.held.len(), record };
                    self.held.push(effect);
                    self.gate.hold(effect, record).into_iter().collect()
                }
                Step::Confirm(record) => {
                    let record = RecordNumber(record);
                    self.confirmed = self.confirmed.max(record.min(self.appended));
                    self.gate.confirm(record)
                }
            };
            for effect in &released {
                assert!(effect.record <= self.confirmed, "{effect:?} before {:?}", self.confirmed);
            }
            self.released.extend(released);
        }
    }

    proptest! {
        #[test]
        fn no_effect_leaves_before_its_record_is_confirmed_and_each_payments_stay_in_order(
            steps in prop::collection::vec(any_step(), 0..120)
        ) {
            let mut ledger = Ledger::new();
            for step in &steps {
                ledger.take(step);
            }
            ledger.take(&Step::Confirm(u64::MAX));
            for payment in 0..PAYMENTS {
                let of = |effects: &[Effect]| -> Vec<Effect> {
                    effects.iter().filter(|effect| effect.payment == payment).copied().collect()
                };
                prop_assert_eq!(of(&ledger.released), of(&ledger.held));
            }
        }
    }

    #[test]
    fn what_is_confirmed_together_leaves_in_the_order_in_which_it_was_decided() {
        let mut gate = Gate::new();
        let (first, second) = (gate.append(), gate.append());
        assert_eq!(gate.hold("b of the second", second), None);
        assert_eq!(gate.hold("a of the first", first), None);
        assert_eq!(gate.hold("at once", RecordNumber::default()), Some("at once"));
        assert_eq!(gate.confirm(second), ["b of the second", "a of the first"]);
        assert_eq!(gate.hold("late", first), Some("late"));
    }

    #[test]
    fn a_record_that_was_never_appended_confirms_nothing_in_advance() {
        let mut gate = Gate::new();
        assert_eq!(gate.confirm(RecordNumber(9)), [""; 0]);
        let record = gate.append();
        assert_eq!(gate.hold("effect", record), None);
        assert_eq!(gate.confirm(record), ["effect"]);
    }
}
