//! Compiles the contract in `proto/` with protox, so that no machine needs a `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 3] = [
    "heist/v1/heist.proto",
    "heist/v1/notification.proto",
    "heist/v1/token.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // sqlx::migrate! embeds the folder: a new migration must rebuild the crate.
    println!("cargo:rerun-if-changed=migrations");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(PROTOS)?;

    // Reflection serves this descriptor.
    let descriptor_path = PathBuf::from(env::var("OUT_DIR")?).join("heist_descriptor.bin");
    fs::write(descriptor_path, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
