//! The commands, with one file each.

mod archive;
mod check;
mod completions;
pub mod config;
mod emails;
mod healthcheck;
mod migrate;
mod output;
mod serve;
mod token;
mod usage;
mod warnings;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Subcommand};

use crate::telemetry;

const EXAMPLES: &str = "\
Examples:
  heist
      Serve with a private PostgreSQL and demo players.
  DATABASE_URL=postgres://app:secret@db/app heist migrate up
      Migrate the application's database.
  DATABASE_URL=postgres://app:secret@db/app HEIST_AUTH=none heist serve
      Serve the application's players without authentication.

Exit codes: 0 on success, 1 if a command found what it looks for to be wrong, 2 if an argument or a
variable is wrong, 3 if it could not do its work.";

/// The version, the commit and the build date: see `build.rs`.
const VERSION: &str = env!("HEIST_VERSION");

/// A gRPC service on PostgreSQL that lets players of a leaderboard rob each other.
///
/// Without a command it runs `heist serve`.
#[derive(clap::Parser)]
#[command(name = "heist", version = VERSION, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Migrate(Box<migrate::Migrate>),
    Check(Box<check::Check>),
    Archive(Box<archive::Archive>),
    Emails(Box<emails::Emails>),
    Token(Box<token::Token>),
    Healthcheck(Box<healthcheck::Healthcheck>),
    Completions(Box<completions::Completions>),
}

/// Runs the command that the arguments and the environment describe.
#[must_use]
pub fn run() -> ExitCode {
    let command = match parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    if let Err(error) = telemetry::init(&command.log().options()) {
        let _ = writeln!(io::stderr(), "heist: cannot start the log: {error}");
        return ExitCode::from(FAILURE);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = runtime.block_on(async {
        match command {
            Command::Serve(serve) => Box::pin(serve.run()).await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::Check(check) => check.run().await,
            Command::Archive(archive) => archive.run().await,
            Command::Emails(emails) => emails.run().await,
            Command::Token(token) => token.run().await,
            Command::Healthcheck(healthcheck) => healthcheck.run().await,
            Command::Completions(completions) => completions.run(Cli::command()),
        }
    });
    // Tasks that still run after the grace period are abandoned, such as a read of a file system
    // that does not answer.
    runtime.shutdown_background();
    match result {
        Ok(()) => {
            telemetry::finish(None);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Parses the arguments and the environment. Prints errors itself, and returns the exit code.
fn parse() -> Result<Command, ExitCode> {
    if let Some(command) = parse_from(std::env::args_os())?.command {
        return Ok(command);
    }
    let serve = parse_from(["heist", "serve"].map(OsString::from))?;
    Ok(serve.command.expect("serve was named"))
}

fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let command = config::apply_environment(Cli::command());
    let command = command.map_err(|error| usage::report_line(&error))?;
    (command.try_get_matches_from(arguments))
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches))
        .map_err(|error| usage::report(&error, &Cli::command()))
}

impl Command {
    fn log(&self) -> &config::LogConfig {
        match self {
            Self::Serve(serve) => &serve.config.log,
            Self::Migrate(migrate) => &migrate.log,
            Self::Check(check) => &check.log,
            Self::Archive(archive) => &archive.log,
            Self::Emails(emails) => &emails.log,
            Self::Token(token) => &token.log,
            Self::Healthcheck(healthcheck) => &healthcheck.log,
            Self::Completions(completions) => &completions.log,
        }
    }
}

/// The exit code of a command that has found what it looks for to be wrong. clap exits with 2 after
/// wrong arguments.
const FOUND: u8 = 1;
/// The exit code of a command that could not do its work.
const FAILURE: u8 = 3;

/// Prints the error as one line.
fn fail(error: &anyhow::Error) -> ExitCode {
    telemetry::finish(Some(&format!("heist: {error:#}")));
    ExitCode::from(if error.is::<output::Found>() {
        FOUND
    } else {
        FAILURE
    })
}
