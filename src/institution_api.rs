//! The generated messages, client and server of `institution.proto`: what terminal, wallet and
//! institution say over gRPC.
//!
//! Each party turns them into types of its own at once; none leaves the crate.

#![allow(clippy::all, clippy::wildcard_enum_match_arm, unreachable_pub, dead_code)]

include!(concat!(env!("OUT_DIR"), "/florin.institution.v1.rs"));
