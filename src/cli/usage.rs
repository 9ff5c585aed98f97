//! Error messages for invalid arguments and environment variables.

use std::{
    io::{self, Write as _},
    iter,
    process::ExitCode,
};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

const USAGE: u8 = 2;

/// Prints one line for a value that is missing or does not parse. The line names the variable, the
/// value and the expected form. clap prints everything else, including help and version.
pub(super) fn report(error: &clap::Error, cli: &Command) -> ExitCode {
    if let Some(line) = bad_value(error, cli).or_else(|| missing_value(error, cli)) {
        return report_line(&line);
    }
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // The reader may have closed the pipe, which is not an error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let rendered = error.render().to_string();
    let redacted = without_passwords(&rendered);
    let _ = if redacted == rendered {
        error.print()
    } else {
        writeln!(io::stderr(), "{}", redacted.trim_end())
    };
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

/// Prints one line.
pub(super) fn report_line(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "heist: {line}");
    ExitCode::from(USAGE)
}

fn bad_value(error: &clap::Error, cli: &Command) -> Option<String> {
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
    let (variable, secret) = variable_of(flag, cli)?;
    let value = if secret {
        "(not shown)".to_owned()
    } else {
        without_passwords(value)
    };
    let expectation = std::error::Error::source(error)?;
    Some(format!(
        "{variable}={value}: {expectation} (also set by {flag})"
    ))
}

/// Replaces the user and the password of each URL in a text.
fn without_passwords(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        redacted.push_str(before);
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let authority_end = after[..end].rfind('@').map_or(0, |at| {
            redacted.push_str("...");
            at
        });
        rest = &after[authority_end..];
    }
    redacted.push_str(rest);
    redacted
}

fn missing_value(error: &clap::Error, cli: &Command) -> Option<String> {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let ContextValue::Strings(arguments) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let flag = arguments.first()?.split_whitespace().next()?;
    let (variable, _) = variable_of(flag, cli)?;
    Some(format!("{variable} is not set (also set by {flag})"))
}

/// The variable that sets `flag`, and whether its value is secret.
fn variable_of(flag: &str, cli: &Command) -> Option<(String, bool)> {
    let name = flag.strip_prefix("--")?;
    let commands = cli.get_subcommands();
    let argument = commands
        .flat_map(|command| iter::once(command).chain(command.get_subcommands()))
        .flat_map(Command::get_arguments)
        .find(|argument| argument.get_long() == Some(name))?;
    let variable = argument.get_env()?.to_str()?.to_owned();
    Some((variable, argument.is_hide_env_values_set()))
}

#[cfg(test)]
mod tests {
    use super::without_passwords;

    #[test]
    fn a_message_has_no_passwords_of_urls() {
        for (text, redacted) in [
            ("no url", "no url"),
            ("at https://example.com/a@b", "at https://...@b"),
            (
                "'postgres://app:hunter2@db/app' and smtp://u:p@ss@mail:25 found",
                "'postgres://...@db/app' and smtp://...@mail:25 found",
            ),
            ("https://example.com found", "https://example.com found"),
        ] {
            assert_eq!(without_passwords(text), redacted);
        }
    }
}
