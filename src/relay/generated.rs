//! The generated messages of `acquirer.proto` and its gRPC client. Nothing outside this room sees them.
#![allow(missing_docs, clippy::all, clippy::wildcard_enum_match_arm, unreachable_pub)]

include!(concat!(env!("OUT_DIR"), "/florin.acquirer.v1.rs"));
