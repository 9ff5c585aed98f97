//! The environment, as deployments write it.

use std::env;

use clap::{Arg, Command};

/// Variables whose empty value has a meaning of its own: it switches something off.
const MAY_BE_EMPTY: [&str; 1] = ["HEIST_METRICS_LISTEN"];

/// The command without the environment variables that are empty: they count as not set, because
/// deployment tools often write an empty value for a missing one.
#[must_use]
pub fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        if is_empty(&argument) {
            argument.env(None::<&str>)
        } else {
            argument
        }
    });
    let names: Vec<String> = (command.get_subcommands())
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    (names.into_iter()).fold(command, |command, name| {
        command.mut_subcommand(name, without_empty_variables)
    })
}

fn is_empty(argument: &Arg) -> bool {
    argument.get_env().is_some_and(|variable| {
        MAY_BE_EMPTY.iter().all(|it| variable != *it)
            && env::var_os(variable).is_some_and(|value| value.is_empty())
    })
}
