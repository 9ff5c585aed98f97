//! The rules as an operator sets them: in the environment at the start, and in a settings file that
//! is watched while the server runs.

mod file;
mod live;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

pub use self::live::LiveSettings;
use crate::domain::rules::{Protection, Rules};

/// The settings that can change while the server runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the feature is on.
    pub enabled: bool,
    /// Whether notifications are also sent by e-mail.
    pub email_enabled: bool,
    pub rates: RateLimits,
    pub rules: Arc<Rules>,
}

/// The calls per minute and player on each replica; `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// `ExecuteHeist`, per attacker.
    pub heists: Option<NonZeroU32>,
    /// All other calls together.
    pub others: Option<NonZeroU32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            email_enabled: false,
            rates: RateLimits::default(),
            rules: Arc::new(Rules::default()),
        }
    }
}

impl RateLimits {
    /// Unlimited calls.
    pub const NONE: Self = Self {
        heists: None,
        others: None,
    };
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            heists: NonZeroU32::new(10),
            others: NonZeroU32::new(60),
        }
    }
}

/// The settings, with the names of their environment variables.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleArgs {
    /// Whether the feature is on. If `false`, every RPC fails with `FEATURE_DISABLED`
    #[arg(long = "enabled", env = "HEIST_ENABLED", value_name = "BOOL", default_value_t = Settings::default().enabled, value_parser = parse::switch, action = clap::ArgAction::Set)]
    enabled: bool,

    /// The percentage of the victim's monthly points that a heist steals, rounded down
    #[arg(long, env = "HEIST_STEAL_PERCENTAGE", value_name = "PERCENT", default_value_t = Rules::default().steal_percentage, value_parser = parse::percentage)]
    steal_percentage: i32,

    /// Maximum number of points that one heist steals; 0: no cap
    #[arg(long, env = "HEIST_MAX_STEAL_POINTS", value_name = "POINTS", default_value_t = Rules::default().max_steal_points.unwrap_or(0), value_parser = parse::points)]
    max_steal_points: i32,

    /// Minimum number of points of a victim
    #[arg(long, env = "HEIST_MIN_TARGET_POINTS", value_name = "POINTS", default_value_t = Rules::default().min_target_points, value_parser = parse::points)]
    min_target_points: i32,

    /// How long an attacker has to wait after a heist; 0s: no cooldown
    #[arg(long, env = "HEIST_COOLDOWN", value_name = "DURATION", default_value = parse::duration_text(Rules::default().cooldown), value_parser = parse::duration)]
    cooldown: Duration,

    /// The number of robberies within the window after which a victim is protected
    #[arg(long, env = "HEIST_PROTECTION_AFTER", value_name = "TIMES", default_value_t = default_protection().after, value_parser = parse::robberies)]
    protection_after: usize,

    /// The window of the protection; 0s: no protection
    #[arg(long, env = "HEIST_PROTECTION_WINDOW", value_name = "DURATION", default_value = parse::duration_text(default_window()), value_parser = parse::duration)]
    protection_window: Duration,

    /// `ExecuteHeist` calls per minute and attacker, on each replica; 0: unlimited
    #[arg(long, env = "HEIST_RATE_LIMIT_PER_MINUTE", value_name = "CALLS", default_value_t = calls(RateLimits::default().heists), value_parser = parse::calls_per_minute)]
    rate_limit_per_minute: u32,

    /// Other calls per minute and player, on each replica; 0: unlimited
    #[arg(long, env = "HEIST_READ_RATE_LIMIT_PER_MINUTE", value_name = "CALLS", default_value_t = calls(RateLimits::default().others), value_parser = parse::calls_per_minute)]
    read_rate_limit_per_minute: u32,

    /// Whether notifications are also sent by e-mail
    #[arg(long, env = "HEIST_EMAIL_ENABLED", value_name = "BOOL", default_value_t = Settings::default().email_enabled, value_parser = parse::switch, action = clap::ArgAction::Set)]
    pub(crate) email_enabled: bool,
}

/// The window of the default protection.
pub(crate) fn default_window() -> Duration {
    default_protection().window
}

fn default_protection() -> Protection {
    let protection = Rules::default().protection;
    protection.expect("victims are protected by default")
}

/// A rate limit as a setting has it, in calls per minute; 0: unlimited.
fn calls(limit: Option<NonZeroU32>) -> u32 {
    limit.map_or(0, NonZeroU32::get)
}

impl RuleArgs {
    /// The name and the value of each setting, as in the environment.
    fn entries(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        // Exhaustive, so that the compiler reports a missing setting.
        let Self {
            enabled,
            steal_percentage,
            max_steal_points,
            min_target_points,
            cooldown,
            protection_after,
            protection_window,
            rate_limit_per_minute,
            read_rate_limit_per_minute,
            email_enabled,
        } = self;
        let duration = |duration: &Duration| humantime::format_duration(*duration).to_string();
        [
            ("HEIST_ENABLED", enabled.to_string()),
            ("HEIST_STEAL_PERCENTAGE", steal_percentage.to_string()),
            ("HEIST_MAX_STEAL_POINTS", max_steal_points.to_string()),
            ("HEIST_MIN_TARGET_POINTS", min_target_points.to_string()),
            ("HEIST_COOLDOWN", duration(cooldown)),
            ("HEIST_PROTECTION_AFTER", protection_after.to_string()),
            ("HEIST_PROTECTION_WINDOW", duration(protection_window)),
            (
                "HEIST_RATE_LIMIT_PER_MINUTE",
                rate_limit_per_minute.to_string(),
            ),
            (
                "HEIST_READ_RATE_LIMIT_PER_MINUTE",
                read_rate_limit_per_minute.to_string(),
            ),
            ("HEIST_EMAIL_ENABLED", email_enabled.to_string()),
        ]
        .into_iter()
    }
}

impl From<RuleArgs> for Settings {
    fn from(args: RuleArgs) -> Self {
        let rules = Rules {
            steal_percentage: args.steal_percentage,
            max_steal_points: (args.max_steal_points > 0).then_some(args.max_steal_points),
            min_target_points: args.min_target_points,
            cooldown: args.cooldown,
            protection: (!args.protection_window.is_zero()).then_some(Protection {
                after: args.protection_after,
                window: args.protection_window,
            }),
        };
        Self {
            enabled: args.enabled,
            email_enabled: args.email_enabled,
            rates: RateLimits {
                heists: NonZeroU32::new(args.rate_limit_per_minute),
                others: NonZeroU32::new(args.read_rate_limit_per_minute),
            },
            rules: Arc::new(rules),
        }
    }
}

/// Parsers of values. An error says what is expected.
pub(crate) mod parse {
    use std::{ops::RangeInclusive, str::FromStr, time::Duration};

    /// A bound that lets every duration be added to every date.
    const MAX_DURATION: Duration = Duration::from_hours(24 * 366);
    /// The maximum number of robberies that a heist reads of its victim.
    const MAX_ROBBERIES: usize = 1000;
    /// The maximum of a rate limit. No replica can answer so many calls per minute.
    const MAX_CALLS_PER_MINUTE: u32 = 1_000_000;

    pub(crate) fn switch(value: &str) -> Result<bool, String> {
        value
            .parse()
            .map_err(|_| "expected true or false".to_owned())
    }

    pub(crate) fn percentage(value: &str) -> Result<i32, String> {
        whole_number(value, 1..=100)
    }

    pub(crate) fn points(value: &str) -> Result<i32, String> {
        whole_number(value, 0..=i32::MAX)
    }

    pub(crate) fn robberies(value: &str) -> Result<usize, String> {
        whole_number(value, 1..=MAX_ROBBERIES)
    }

    pub(crate) fn calls_per_minute(value: &str) -> Result<u32, String> {
        whole_number(value, 0..=MAX_CALLS_PER_MINUTE)
    }

    pub(crate) fn whole_number<N>(value: &str, range: RangeInclusive<N>) -> Result<N, String>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        value
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("expected a whole number from {least} to {most}")
            })
    }

    /// A duration as [`duration`] parses it, in hours if it is a multiple of one.
    pub(crate) fn duration_text(duration: Duration) -> String {
        let seconds = duration.as_secs();
        if seconds > 0 && seconds.is_multiple_of(3600) && duration.subsec_nanos() == 0 {
            return format!("{}h", seconds / 3600);
        }
        humantime::format_duration(duration).to_string()
    }

    pub(crate) fn duration(value: &str) -> Result<Duration, String> {
        humantime::parse_duration(value)
            .ok()
            .filter(|duration| *duration <= MAX_DURATION)
            .ok_or_else(|| "expected a duration such as 90s, 24h or 7d, at most a year".to_owned())
    }
}
