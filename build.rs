//! Compiles the contract in `proto/` with protox, so that no machine needs a `protoc`, and tells
//! the program its commit and build date.

use std::{env, error::Error, fs, path::PathBuf, process::Command};

use time::{Date, OffsetDateTime};

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

    println!("cargo:rustc-env=HEIST_VERSION={}", version()?);
    Ok(())
}

/// Such as `0.1.0 (8f3c1d2a9b4e, built 2026-11-28)`. A debug build says only that: otherwise each
/// commit would compile the crate again.
fn version() -> Result<String, Box<dyn Error>> {
    let version = env::var("CARGO_PKG_VERSION")?;
    if env::var("PROFILE")? != "release" {
        return Ok(format!("{version} (debug build)"));
    }
    println!("cargo:rerun-if-env-changed=HEIST_REVISION");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let revision = env::var("HEIST_REVISION").ok();
    let revision = revision.filter(|revision| !revision.is_empty());
    let revision = revision
        .or_else(commit)
        .unwrap_or_else(|| "unknown commit".to_owned());
    let short: String = revision.chars().take(14).collect();
    Ok(format!("{version} ({short}, built {})", build_date()?))
}

/// The commit of the checkout; `None` without git.
fn commit() -> Option<String> {
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if fs::exists(&log).ok()? {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Today, or the day of `SOURCE_DATE_EPOCH`, for builds that can be reproduced.
fn build_date() -> Result<Date, Box<dyn Error>> {
    Ok(match env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => OffsetDateTime::from_unix_timestamp(epoch.parse()?)?.date(),
        Err(_) => OffsetDateTime::now_utc().date(),
    })
}
