//! The environment, as deployments write it.

use std::{env, path::PathBuf};

use clap::{Arg, Command, builder::ValueParser};

use crate::{
    store::pool::DatabaseUrl,
    watched::{self, WatchedFile},
};

/// Variables whose empty value has a meaning of its own: it switches something off.
const MAY_BE_EMPTY: [&str; 1] = ["HEIST_METRICS_LISTEN"];
/// Files with database URLs, which new connections read again.
const URL_FILES: [&str; 3] = [
    "DATABASE_URL_FILE",
    "DATABASE_DIRECT_URL_FILE",
    "DATABASE_READ_URL_FILE",
];

/// Applies the environment to a command and its subcommands:
///
/// - A variable that is empty counts as not set, because deployment tools often write an empty value
///   for a missing one.
/// - Each secret variable can be in a file, which `NAME_FILE` names.
///
/// # Errors
///
/// A secret and its file are both set, or the file cannot be read. The message names the variable.
pub fn apply_environment(command: Command) -> Result<Command, String> {
    let mut error = None;
    let mut command = command.mut_args(|mut argument| {
        if is_empty(&argument) {
            argument = argument.env(None::<&str>);
        }
        match secret_in_file(&argument) {
            Ok(None) => argument,
            Ok(Some(secret)) => secret.set_as_default(argument),
            Err(message) => {
                error.get_or_insert(message);
                argument
            }
        }
    });
    if let Some(error) = error {
        return Err(error);
    }
    let names: Vec<String> = (command.get_subcommands())
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    for name in names {
        let mut applied = Ok(Command::default());
        command = command.mut_subcommand(name, |subcommand| {
            applied = apply_environment(subcommand);
            applied.clone().unwrap_or_default()
        });
        applied?;
    }
    Ok(command)
}

/// Parses a database URL.
///
/// # Errors
///
/// It is not valid, or a variable of libpq would change the connection. sqlx reads these variables
/// where the URL says nothing, so that a variable meant for psql could lead to another database.
pub(super) fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    let url = DatabaseUrl::parse(text)?;
    let is_set = |variable: &&'static str| env::var_os(variable).is_some();
    let inherited = url.inherited_variables().find(is_set);
    match inherited {
        None => Ok(url),
        Some("PGPASSWORD") => Err(
            "PGPASSWORD is set and would change the connection: unset it; the password belongs into \
             the URL, or into the file that PGPASSFILE names"
                .to_owned(),
        ),
        Some(variable) => Err(format!(
            "{variable} is set and would change the connection: unset it; all settings of the \
             connection belong into the URL"
        )),
    }
}

fn is_empty(argument: &Arg) -> bool {
    argument.get_env().is_some_and(|variable| {
        MAY_BE_EMPTY.iter().all(|it| variable != *it)
            && env::var_os(variable).is_some_and(|value| value.is_empty())
    })
}

struct Secret {
    /// Without the line break at its end.
    content: String,
    /// The file, if it holds a database's URL.
    url_file: Option<WatchedFile>,
}

impl Secret {
    fn set_as_default(self, argument: Arg) -> Arg {
        let Self { content, url_file } = self;
        let argument = match url_file {
            None => argument,
            Some(file) => {
                let in_file = content.clone();
                argument.value_parser(ValueParser::new(move |text: &str| {
                    let url = DatabaseUrl::parse(text)?;
                    // A flag takes precedence over the file.
                    let is_from_file = text == in_file;
                    Ok::<_, String>(if is_from_file {
                        url.in_file(file.clone())
                    } else {
                        url
                    })
                }))
            }
        };
        (argument.default_value(content))
            .hide_default_value(true)
            .required(false)
    }
}

/// The secret in the file that `NAME_FILE` names.
fn secret_in_file(argument: &Arg) -> Result<Option<Secret>, String> {
    let Some(variable) = argument
        .get_env()
        .filter(|_| argument.is_hide_env_values_set())
    else {
        return Ok(None);
    };
    let variable = variable.to_string_lossy();
    let file_variable = format!("{variable}_FILE");
    let Some(path) = env::var_os(&file_variable).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    if env::var_os(&*variable).is_some_and(|value| !value.is_empty()) {
        return Err(format!("{variable} and {file_variable} are both set"));
    }
    let path = PathBuf::from(path);
    let url_file = (URL_FILES.iter().find(|name| **name == file_variable))
        .map(|name| WatchedFile::named(name, path.clone()));
    let named = |cause: String| format!("{file_variable}={}: {cause}", path.display());
    let content = watched::read_once(&path).map_err(|cause| named(cause.to_string()))?;
    let content = String::from_utf8(content).map_err(|_| named("it is not UTF-8".to_owned()))?;
    let content = content.trim_end_matches(['\r', '\n']);
    if content.is_empty() {
        return Err(named("it is empty".to_owned()));
    }
    Ok(Some(Secret {
        content: content.to_owned(),
        url_file,
    }))
}
