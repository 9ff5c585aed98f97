//! `heist completions`

use clap::Command;
use clap_complete::{Shell, generate};

use super::{config::LogConfig, output::print_line};

const EXAMPLES: &str = "\
Examples:
  heist completions bash > /etc/bash_completion.d/heist
  heist completions zsh > \"${fpath[1]}/_heist\"
  heist completions fish > ~/.config/fish/completions/heist.fish";

/// Prints a script that completes the commands and flags in a shell
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    #[arg(value_name = "SHELL")]
    shell: Shell,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

impl Completions {
    /// Prints the script for `heist`, without the environment: its values would be defaults in the
    /// script.
    pub(super) fn run(self, mut heist: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        generate(self.shell, &mut heist, "heist", &mut script);
        print_line(String::from_utf8(script)?.trim_end())
    }
}
