//! The settings file: lines of `NAME=value`, as `.env` files have them.
//!
//! Blank lines and lines that begin with `#` mean nothing, and so does what follows ` #` behind
//! a value. A value may stand in a pair of quotes, single or double. There is nothing else: no
//! escapes, no variables, no value of several lines.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io::{self, ErrorKind},
    path::Path,
};

use clap::{Args as _, Command, FromArgMatches as _};
use tokio::io::AsyncReadExt as _;

use super::RuleArgs;

/// Far more than every setting with a page of comments takes.
const MOST_BYTES: u64 = 64 * 1024;

/// Why a settings file is refused. It is refused whole: half of what an operator wrote may be
/// worse than nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is larger than {MOST_BYTES} bytes")]
    TooLarge,
    #[error("it is not UTF-8")]
    NotText,
    #[error("line {line}: expected NAME=value")]
    NotAnAssignment { line: usize },
    #[error("line {line}: a quote without its partner")]
    UnbalancedQuote { line: usize },
    /// The value is not repeated: whoever mistakes the file may have put a secret there.
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

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The bytes of a settings file.
///
/// # Errors
///
/// [`FileError::Unreadable`] and [`FileError::TooLarge`].
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    // To open a pipe would wait for somebody who writes it.
    if !tokio::fs::metadata(path).await?.is_file() {
        let error = io::Error::new(ErrorKind::InvalidInput, "it is not a file");
        return Err(FileError::Unreadable(error.to_string()));
    }
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MOST_BYTES + 1).read_to_end(&mut content).await?;
    if content.len() as u64 > MOST_BYTES {
        return Err(FileError::TooLarge);
    }
    Ok(content)
}

/// What the file says, and for all that it does not mention, what `defaults` say.
///
/// # Errors
///
/// The first thing in the file that is wrong.
pub(super) fn parse(content: &[u8], defaults: &RuleArgs) -> Result<RuleArgs, FileError> {
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

/// Name and value; `None` where the line has neither.
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

/// Takes over one value, by the same parsers as those of the environment.
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
    // Nothing but the file has a say here.
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

    fn complaint(content: impl AsRef<[u8]>) -> String {
        parse(content.as_ref(), &defaults())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_the_file_does_not_mention_stays_as_it_was() {
        let before = parse(b"HEIST_COOLDOWN=1h", &defaults()).unwrap();
        let after = parse(b"HEIST_STEAL_PERCENTAGE=7", &before).unwrap();
        let rules = Settings::from(after).rules;
        assert_eq!(rules.cooldown, Duration::from_hours(1));
        assert_eq!(rules.steal_percentage, 7);
        assert_eq!(rules.min_target_points, 20);
    }

    #[test]
    fn a_file_looks_like_an_env_file() {
        let settings = settings(
            "\r\n# Switched off for the night.\r\n  HEIST_ENABLED = false \r\n\
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
    fn a_complaint_names_the_line_and_what_is_expected() {
        for (content, expected) in [
            ("\nHEIST_ENABLED", "line 2: expected NAME=value"),
            ("HEIST_COOLDOWN='1h", "line 1: a quote without its partner"),
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
            assert_eq!(complaint(content), expected);
        }
        assert_eq!(complaint(b"HEIST_ENABLED=\xff"), "it is not UTF-8");
    }

    #[test]
    fn a_setting_of_the_process_is_unknown_here_and_its_value_is_not_repeated() {
        let complaint = complaint("DATABASE_URL=postgres://app:hunter2@db/app");
        let begins = "line 1: DATABASE_URL is none of HEIST_ENABLED, ";
        assert!(complaint.starts_with(begins), "{complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }

    #[test]
    fn every_setting_of_the_game_is_known_and_shown_as_it_can_be_written() {
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
        fn no_bytes_at_all_bring_it_down(content: Vec<u8>) {
            let _ = parse(&content, &defaults());
        }

        #[test]
        fn no_value_brings_it_down(index in 0_usize..9, value in "[ -~]{0,20}") {
            let names = known_names();
            let _ = parse(format!("{}={value}", names[index]).as_bytes(), &defaults());
        }
    }
}
