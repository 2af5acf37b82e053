//! A rate limit for one phone: a token bucket.
//!
//! It counts. What happens to a phone that exceeds its limit is the engine's business.

use crate::domain::Moment;

/// One token, in thousandths. The bucket counts thousandths so that it refills exactly, however
/// often it is used.
const TOKEN: u64 = 1_000;

/// A bucket of at most `burst_max` tokens that refills with `per_s` tokens a second.
#[derive(Debug, Clone)]
pub(super) struct TokenBucket {
    thousandths: u64,
    thousandths_max: u64,
    per_s: u64,
    counted_at: Moment,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(burst_max: u32, per_s: u32, now: Moment) -> Self {
        let thousandths_max = u64::from(burst_max) * TOKEN;
        Self {
            thousandths: thousandths_max,
            thousandths_max,
            per_s: u64::from(per_s),
            counted_at: now,
        }
    }

    /// Takes one token. False if there is none.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let refilled = now.since_ms(self.counted_at).saturating_mul(self.per_s);
        self.thousandths = self.thousandths.saturating_add(refilled).min(self.thousandths_max);
        self.counted_at = self.counted_at.max(now);
        match self.thousandths.checked_sub(TOKEN) {
            Some(left) => {
                self.thousandths = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment { milliseconds }
    }

    #[test]
    fn a_burst_empties_it_and_time_refills_it_up_to_its_size() {
        let mut token_bucket = TokenBucket::new(3, 2, at(0));
        assert_eq!([(); 5].map(|()| token_bucket.take(at(0))), [true, true, true, false, false]);
        assert!(!token_bucket.take(at(499)));
        assert!(token_bucket.take(at(500)));
        assert!(!token_bucket.take(at(500)));
        assert_eq!([(); 4].map(|()| token_bucket.take(at(1_000_000))), [true, true, true, false]);
    }

    proptest! {
        #[test]
        fn no_pace_gets_more_than_the_burst_and_the_refill(
            pauses_ms in prop::collection::vec(0u64..400, 1..300)
        ) {
            let mut token_bucket = TokenBucket::new(5, 7, at(0));
            let (mut now_ms, mut taken) = (0, 0);
            for pause_ms in pauses_ms {
                now_ms += pause_ms;
                taken += u64::from(token_bucket.take(at(now_ms)));
                prop_assert!(taken * 1_000 <= 5 * 1_000 + 7 * now_ms, "{taken} in {now_ms} ms");
            }
        }
    }
}
