//! Error messages for invalid arguments and environment variables.

use std::{iter, process::ExitCode};

use clap::{
    CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;

const USAGE: u8 = 2;

/// Prints one line for a value that is missing or does not parse: the variable, the value and what is
/// expected. clap prints everything else, including help and version.
pub(super) fn report(error: &clap::Error) -> ExitCode {
    if let Some(line) = bad_value(error).or_else(|| missing_value(error)) {
        eprintln!("heist: {line}");
        return ExitCode::from(USAGE);
    }
    // The reader may have closed the pipe.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

fn bad_value(error: &clap::Error) -> Option<String> {
    if !matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        return None;
    }
    let ContextValue::String(argument) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let ContextValue::String(value) = error.get(ContextKind::InvalidValue)? else {
        return None;
    };
    let flag = argument.split_whitespace().next()?;
    let (variable, secret) = variable_of(flag)?;
    let value = if secret { "(not shown)" } else { value };
    let expectation = std::error::Error::source(error)?;
    Some(format!(
        "{variable}={value}: {expectation} (also set by {flag})"
    ))
}

fn missing_value(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let ContextValue::Strings(arguments) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let flag = arguments.first()?.split_whitespace().next()?;
    let (variable, _) = variable_of(flag)?;
    Some(format!("{variable} is not set (also set by {flag})"))
}

/// The variable that sets `flag`, and whether its value is secret.
fn variable_of(flag: &str) -> Option<(String, bool)> {
    let name = flag.strip_prefix("--")?;
    let cli = Cli::command();
    let commands = cli.get_subcommands();
    let argument = commands
        .flat_map(|command| iter::once(command).chain(command.get_subcommands()))
        .flat_map(clap::Command::get_arguments)
        .find(|argument| argument.get_long() == Some(name))?;
    let variable = argument.get_env()?.to_str()?.to_owned();
    Some((variable, argument.is_hide_env_values_set()))
}
