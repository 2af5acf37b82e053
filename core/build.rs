//! Generates the Rust types of what phone, terminal and institution exchange, with protox, a
//! protobuf compiler in Rust: no `protoc` is needed.

use std::error::Error;

use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::prost_types::field_descriptor_proto::Type;

const PROTO_FILES: [&str; 2] =
    ["florin/payment/v1/payment.proto", "florin/credential/v1/credential.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut descriptors = protox::compile(PROTO_FILES, ["proto"])?;
    widen(&mut descriptors);
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}

/// Has every integer and enumeration read as 64 bits, as the wire carries it. Read as 32 bits, a
/// number out of its range would be cut to another number that may be in it.
fn widen(descriptors: &mut FileDescriptorSet) {
    let messages = descriptors.file.iter_mut().flat_map(|file| &mut file.message_type);
    for field in messages.flat_map(|message| &mut message.field) {
        if matches!(field.r#type(), Type::Uint32 | Type::Enum) {
            field.set_type(Type::Uint64);
            field.type_name = None;
        }
    }
}
