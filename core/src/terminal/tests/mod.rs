//! The engine, driven step by step: no clock, no radio, no disk.

#![allow(clippy::wildcard_enum_match_arm)]

mod any_inputs;
mod bench;
mod crowd;
mod deadlines;
mod dispense;
mod hold_off;
mod institution;
mod journal_first;
mod limits;
mod offers;
mod phone;
mod reoffers;
mod restart;
mod results;
mod slots;

use super::fixtures::{self, identity, request};
use super::{
    AdvertisingPace, DeadlinePurpose, DispensePolicy, Input, InstitutionAnswer, InstitutionRequest,
    NotChargedReason, Now, Output, Payment, PaymentRequest, PaymentState, PaymentView,
    PhoneAddress, PhoneId, PhoneTimer, RecordNumber, Settings, Terminal, TillCallId, TillRefusal,
    TillRequest, Timer, TransactionState,
};
use crate::credential::SealedCommand;
use crate::domain::{DeclineReason, Moment, Outcome, ReversalReason, TransactionId, UnixTime};
use crate::protocol::{
    FragmentTag, FromPhone, FromTerminal, Initiator, MessageKind, Reassembler, WireError,
    decode_plain_error,
};
use bench::Bench;
use phone::{Phone, errors, outcomes, wrote};
