//! Generates the Rust types of what phone, terminal and institution exchange, with protox, a
//! protobuf compiler in Rust: no `protoc` is needed.

use std::error::Error;

const PROTO_FILES: [&str; 2] =
    ["florin/payment/v1/payment.proto", "florin/credential/v1/credential.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    prost_build::Config::new().compile_fds(protox::compile(PROTO_FILES, ["proto"])?)?;
    Ok(())
}
