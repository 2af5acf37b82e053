//! The generated messages, client and server of `institution.proto`: what terminal, wallet and
//! institution say over gRPC.
//!
//! Each party turns them into types of its own at once; none leaves the crate.

#![allow(clippy::all, clippy::wildcard_enum_match_arm, unreachable_pub, dead_code)]

include!(concat!(env!("OUT_DIR"), "/florin.institution.v1.rs"));

/// The value of an enumeration that a number on the wire stands for; "unspecified" for a number
/// that this version does not know.
fn enumeration<E: TryFrom<i32> + Default>(number: u64) -> E {
    i32::try_from(number).ok().and_then(|number| E::try_from(number).ok()).unwrap_or_default()
}

/// The number on the wire that stands for a value of an enumeration.
fn number_of(value: impl Into<i32>) -> u64 {
    u64::try_from(value.into()).unwrap_or_default()
}

impl From<TransactionState> for u64 {
    fn from(value: TransactionState) -> Self {
        number_of(value)
    }
}

impl From<ReversalReason> for u64 {
    fn from(value: ReversalReason) -> Self {
        number_of(value)
    }
}

impl From<Standing> for u64 {
    fn from(value: Standing) -> Self {
        number_of(value)
    }
}

impl Transaction {
    /// How the transaction stands; unspecified for a number that no state has.
    pub fn state(&self) -> TransactionState {
        enumeration(self.state)
    }
}

impl ReverseRequest {
    /// Why it is reversed; unspecified for a number that no reason has.
    pub fn reason(&self) -> ReversalReason {
        enumeration(self.reason)
    }
}

impl CheckStandingResponse {
    /// How the terminal stands; unspecified for a number that no standing has.
    pub fn standing(&self) -> Standing {
        enumeration(self.standing)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_number_out_of_its_range_is_not_cut_to_one_in_it() {
        // Field 2 of a transaction, and field 3 of a reversal, with 2^32 + 2: the end of a varint
        // of 32 bits would be 2.
        let varint = [0x82, 0x80, 0x80, 0x80, 0x10];
        let transaction = Transaction::decode([&[0x10][..], &varint].concat().as_slice()).unwrap();
        assert_eq!(transaction.state(), TransactionState::Unspecified);
        let reversal = ReverseRequest::decode([&[0x18][..], &varint].concat().as_slice()).unwrap();
        assert_eq!(reversal.reason(), ReversalReason::Unspecified);
        let answer = CheckStandingResponse::decode([&[0x08][..], &varint].concat().as_slice());
        assert_eq!(answer.unwrap().standing(), Standing::Unspecified);
        for state in 0..=5 {
            let state = TransactionState::try_from(state).unwrap();
            let message = Transaction { state: state.into(), ..Default::default() };
            assert_eq!(message.state(), state);
        }
    }
}
