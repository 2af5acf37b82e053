//! A payment system in a box: the real engine, the real wallet session and the real institution on
//! a virtual clock, link, network and disk, all from one seed.
//!
//! Not real here: BlueZ, gRPC and TLS, the till's HTTP, files. Each has tests of its own; what they
//! may do to a payment is among the faults.

mod air;
mod bank;
mod books;
pub mod campaign;
mod clock;
mod disk;
mod event;
pub mod fault;
mod link;
mod machine;
pub mod model;
mod network;
mod phone;
pub mod planted;
mod randomness;
mod relay;
pub mod report;
mod stage;
mod till;
pub mod world;
