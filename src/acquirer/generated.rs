//! The generated types and services of `acquirer.proto`. Only [`super::service`] and [`super::server`] see them.

#![allow(missing_docs, clippy::all, clippy::wildcard_enum_match_arm)]

include!(concat!(env!("OUT_DIR"), "/florin.acquirer.v1.rs"));
