//! Values of settings: parsed into rules that can be played by, or refused.

use clap::{CommandFactory as _, Parser};
use heist::{cli::config::ServeConfig, rpc::TrafficLimits, settings::Settings};
use time::OffsetDateTime;

use crate::fuzz;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    config: ServeConfig,
}

/// The flag of a variable.
fn flag(variable: &str) -> Option<String> {
    let command = Serve::command();
    let argument =
        (command.get_arguments()).find(|it| it.get_env().is_some_and(|name| name == variable))?;
    argument.get_long().map(|long| format!("--{long}"))
}

/// Plays by the rules at their edges.
fn play(settings: &Settings) {
    let rules = &settings.rules;
    for points in [i32::MIN, 0, 1, 19, 20, 1999, i32::MAX] {
        assert!(rules.points_at_stake(points) <= points.max(0));
    }
    let now = OffsetDateTime::now_utc();
    assert!(rules.cooldown_end_after(now).is_none_or(|end| end > now));
}

#[test]
fn settings() {
    fuzz("settings", |input| {
        let text = String::from_utf8_lossy(&input.bytes);
        let mut line = vec!["heist".to_owned()];
        for setting in text.lines() {
            let Some((variable, value)) = setting.split_once('=') else {
                continue;
            };
            if let Some(flag) = flag(variable) {
                line.push(format!("{flag}={value}"));
            }
        }
        if let Ok(Serve { config }) = Serve::try_parse_from(line) {
            play(&config.rules.into());
            let traffic = TrafficLimits::from(config.traffic);
            assert!(traffic.calls > 0 && traffic.streams > 0);
        }
    });
}
