//! The engine, driven step by step: no clock, no radio, no disk.

#![allow(clippy::wildcard_enum_match_arm)]

mod any_inputs;
mod belief;
mod bench;
mod crowd;
mod deadlines;
mod dispense;
mod institution;
mod journal_first;
mod limits;
mod offers;
mod phone;
mod presentations;
mod proofs;
mod reoffers;
mod restart;
mod results;
mod stale_journal;

use super::fixtures::{self, identity, request};
use super::{
    AdvertisingPace, DeadlinePurpose, DispensePolicy, Input, InstitutionAnswer, InstitutionRequest,
    JournalledCommand, Now, Output, Payment, PaymentRequest, PaymentState, PaymentView, PhoneId,
    PhoneTimer, RecordNumber, Settings, StoreGeneration, Terminal, TillCallId, TillRefusal,
    TillRequest, Timer, TransactionClaim, TransactionState,
};
use crate::credential::{SealedCommand, sign_receipt};
use crate::domain::{
    CommandDigest, DeclineReason, Moment, Outcome, ReversalReason, TransactionId, UnixTime,
};
use crate::protocol::{
    FragmentTag, FromPhone, FromTerminal, Initiator, MessageKind, Reassembler, WireError,
    decode_plain_error,
};
use bench::Bench;
use phone::{Phone, errors, outcomes, wrote};
