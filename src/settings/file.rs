//! The settings file: lines of `NAME=value`, in the format of `.env` files.
//!
//! Blank lines and lines that begin with `#` are ignored, and so is a comment after a value that
//! begins with ` #`. A value may be in single or double quotes. There are no escapes, no variables
//! and no multi-line values.

use std::{collections::BTreeMap, error::Error as _};

use clap::{Args as _, Command, FromArgMatches as _};

use super::RuleArgs;

/// The maximum size of the file. All settings with a page of comments are much smaller.
const MAX_BYTES: usize = 64 * 1024;

/// Why a settings file is refused. It is refused as a whole, because a part of an operator's change
/// may be worse than no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is not UTF-8")]
    NotText,
    #[error("line {line}: expected NAME=value")]
    NotAnAssignment { line: usize },
    #[error("line {line}: the closing quote is missing")]
    UnbalancedQuote { line: usize },
    /// The message does not contain the value, because it may be a misplaced secret.
    #[error("line {line}: {name} is none of {}", known_names().join(", "))]
    UnknownName { line: usize, name: String },
    #[error("line {line}: {name} is already set in line {first}")]
    SetTwice {
        line: usize,
        first: usize,
        name: String,
    },
    #[error("line {line}: {name}={value}: {expectation}")]
    BadValue {
        line: usize,
        name: String,
        value: String,
        expectation: String,
    },
    #[error("players cannot be mailed: {0}")]
    CannotMail(String),
}

/// The settings of the file. A setting that the file does not contain has its value in `defaults`.
///
/// # Errors
///
/// The first error in the file.
pub(super) fn parse(content: &[u8], defaults: &RuleArgs) -> Result<RuleArgs, FileError> {
    if content.len() > MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    let text = std::str::from_utf8(content).map_err(|_| FileError::NotText)?;
    let mut settings = defaults.clone();
    let mut seen = BTreeMap::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let Some((name, value)) = assignment(line, text)? else {
            continue;
        };
        if let Some(first) = seen.insert(name, line) {
            let name = name.to_owned();
            return Err(FileError::SetTwice { line, first, name });
        }
        set(&mut settings, line, name, value)?;
    }
    Ok(settings)
}

/// Name and value; `None` for a blank line and a comment.
fn assignment(line: usize, text: &str) -> Result<Option<(&str, &str)>, FileError> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = (text.split_once('=')).ok_or(FileError::NotAnAssignment { line })?;
    let (name, value) = (name.trim(), value.trim());
    let Some(quote) = value.chars().next().filter(|first| "'\"".contains(*first)) else {
        let comment = value.find(" #").or_else(|| value.find("\t#"));
        let value = &value[..comment.unwrap_or(value.len())];
        return Ok(Some((name, value.trim_end())));
    };
    let (value, rest) =
        (value[1..].split_once(quote)).ok_or(FileError::UnbalancedQuote { line })?;
    if rest.is_empty() || rest.trim_start().starts_with('#') {
        Ok(Some((name, value)))
    } else {
        Err(FileError::NotAnAssignment { line })
    }
}

/// Parses one value with the parser that the environment variable has.
fn set(settings: &mut RuleArgs, line: usize, name: &str, value: &str) -> Result<(), FileError> {
    let command = command();
    let flag = (command.get_arguments())
        .find(|argument| argument.get_env().is_some_and(|variable| variable == name))
        .and_then(clap::Arg::get_long)
        .ok_or_else(|| FileError::UnknownName {
            line,
            name: name.to_owned(),
        })?;
    let argument = format!("--{flag}={value}");
    // Only the value of the file counts, not the environment or the default.
    let command = command.mut_args(|argument| argument.env(None).default_value(None));
    (command.try_get_matches_from([argument]))
        .and_then(|matches| settings.update_from_arg_matches(&matches))
        .map_err(|error| FileError::BadValue {
            line,
            name: name.to_owned(),
            value: value.to_owned(),
            expectation: error.source().map(ToString::to_string).unwrap_or_default(),
        })
}

fn command() -> Command {
    RuleArgs::augment_args_for_update(Command::new("settings").no_binary_name(true))
}

fn known_names() -> Vec<String> {
    (command().get_arguments())
        .filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::settings::Settings;

    fn defaults() -> RuleArgs {
        let command = command().mut_args(|argument| argument.env(None));
        let matches = command.get_matches_from(Vec::<String>::new());
        RuleArgs::from_arg_matches(&matches).unwrap()
    }

    fn settings(content: &str) -> Settings {
        parse(content.as_bytes(), &defaults()).unwrap().into()
    }

    fn error_of(content: impl AsRef<[u8]>) -> String {
        parse(content.as_ref(), &defaults())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_setting_that_the_file_does_not_contain_keeps_its_default() {
        let before = parse(b"HEIST_COOLDOWN=1h", &defaults()).unwrap();
        let after = parse(b"HEIST_STEAL_PERCENTAGE=7", &before).unwrap();
        let rules = Settings::from(after).rules;
        assert_eq!(rules.cooldown, Duration::from_hours(1));
        assert_eq!(rules.steal_percentage, 7);
        assert_eq!(rules.min_target_points, 20);
    }

    #[test]
    fn comments_quotes_and_blanks_are_parsed_as_in_env_files() {
        let settings = settings(
            "\r\n# Off.\r\n  HEIST_ENABLED = false \r\n\
             HEIST_COOLDOWN='1h 30m' # and a half\nHEIST_PROTECTION_WINDOW=\"2days\"\n\
             HEIST_MAX_STEAL_POINTS=7\t# few\n\n",
        );
        assert!(!settings.enabled);
        assert_eq!(settings.rules.cooldown, Duration::from_mins(90));
        assert_eq!(settings.rules.max_steal_points, Some(7));
        let protection = settings.rules.protection.unwrap();
        assert_eq!(protection.window, Duration::from_hours(48));
    }

    #[test]
    fn an_error_names_the_line_and_the_expected_value() {
        for (content, expected) in [
            ("\nHEIST_ENABLED", "line 2: expected NAME=value"),
            ("HEIST_COOLDOWN='1h", "line 1: the closing quote is missing"),
            ("HEIST_COOLDOWN='1h' 2h", "line 1: expected NAME=value"),
            (
                "HEIST_ENABLED=perhaps",
                "line 1: HEIST_ENABLED=perhaps: expected true or false",
            ),
            (
                "HEIST_ENABLED=",
                "line 1: HEIST_ENABLED=: expected true or false",
            ),
            (
                "HEIST_STEAL_PERCENTAGE=101",
                "line 1: HEIST_STEAL_PERCENTAGE=101: expected a whole number from 1 to 100",
            ),
            (
                "HEIST_ENABLED=true\n\nHEIST_ENABLED=true",
                "line 3: HEIST_ENABLED is already set in line 1",
            ),
        ] {
            assert_eq!(error_of(content), expected);
        }
        assert_eq!(error_of(b"HEIST_ENABLED=\xff"), "it is not UTF-8");
    }

    #[test]
    fn a_setting_of_the_process_is_unknown_and_the_error_does_not_contain_its_value() {
        let error = error_of("DATABASE_URL=postgres://app:hunter2@db/app");
        let begins = "line 1: DATABASE_URL is none of HEIST_ENABLED, ";
        assert!(error.starts_with(begins), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn every_setting_is_known_and_its_displayed_value_parses() {
        let entries: Vec<(&str, String)> = defaults().entries().collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, known_names());
        let lines: Vec<String> = (entries.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let read = parse(lines.join("\n").as_bytes(), &defaults()).unwrap();
        assert!(read.entries().eq(defaults().entries()));
    }

    proptest! {
        #[test]
        fn no_content_panics(content: Vec<u8>) {
            let _ = parse(&content, &defaults());
        }

        #[test]
        fn no_value_panics(index in 0_usize..9, value in "[ -~]{0,20}") {
            let names = known_names();
            let _ = parse(format!("{}={value}", names[index]).as_bytes(), &defaults());
        }
    }
}
