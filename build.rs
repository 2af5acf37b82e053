//! Generates the Rust types of `proto/` with protox, a protobuf compiler in Rust: no `protoc` is
//! needed.
//!
//! It generates the gRPC client always and the server only where the institution is built, so that
//! a terminal's binary does not carry it.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::prost_types::field_descriptor_proto::Type;

fn main() -> Result<(), Box<dyn Error>> {
    // A lower bound for the time: a clock that shows less was never set. Reproducible builds say it
    // themselves.
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let built_at_unix_s = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse::<u64>()?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("cargo::rustc-env=FLORIN_BUILT_AT_UNIX_S={built_at_unix_s}");
    println!("cargo::rerun-if-changed=proto");
    let files =
        ["florin/institution/v1/institution.proto", "florin/institution/v1/administration.proto"];
    let mut descriptors = protox::compile(files, ["proto"])?;
    widen(&mut descriptors);
    let institution = std::env::var_os("CARGO_FEATURE_INSTITUTION").is_some();
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(institution)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Has every integer and enumeration read as 64 bits, as the wire carries it (as the core's does).
/// Read as 32 bits, a number out of its range would be cut to another number that may be in it.
fn widen(descriptors: &mut FileDescriptorSet) {
    let messages = descriptors.file.iter_mut().flat_map(|file| &mut file.message_type);
    for field in messages.flat_map(|message| &mut message.field) {
        if matches!(field.r#type(), Type::Uint32 | Type::Enum) {
            field.set_type(Type::Uint64);
            field.type_name = None;
        }
    }
}
