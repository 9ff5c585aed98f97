//! The rules of the game as an operator sets them: from the environment at the start, and from
//! a file that is watched while the server runs.

mod file;
mod live;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

pub use self::{file::FileError, live::LiveSettings};
use crate::domain::rules::{Protection, Rules};

/// What may be set about the game.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether heists are on at all.
    pub enabled: bool,
    /// Whether players are told by e-mail, too.
    pub email_enabled: bool,
    pub rates: RateLimits,
    pub rules: Arc<Rules>,
}

/// How many calls a minute each replica takes for one player; `None`: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// `ExecuteHeist`, by attacker.
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
    /// Any number of calls for anybody.
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

/// The settings of the game, by the names they have in the environment.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Rules of the game")]
pub struct RuleArgs {
    /// Whether heists are on; `false` makes every RPC answer `FEATURE_DISABLED`
    #[arg(long = "enabled", env = "HEIST_ENABLED", value_name = "BOOL", default_value = "true", value_parser = parse::switch, action = clap::ArgAction::Set)]
    enabled: bool,

    /// Share of the victim's monthly points that a heist steals, in percent, rounded down
    #[arg(long, env = "HEIST_STEAL_PERCENTAGE", value_name = "PERCENT", default_value = "5", value_parser = parse::percentage)]
    steal_percentage: i32,

    /// The most that one heist steals, in points; 0: no cap
    #[arg(long, env = "HEIST_MAX_STEAL_POINTS", value_name = "POINTS", default_value = "100", value_parser = parse::points)]
    max_steal_points: i32,

    /// A victim needs at least so many points
    #[arg(long, env = "HEIST_MIN_TARGET_POINTS", value_name = "POINTS", default_value = "20", value_parser = parse::points)]
    min_target_points: i32,

    /// How long an attacker waits after a heist; 0s: not at all
    #[arg(long, env = "HEIST_COOLDOWN", value_name = "DURATION", default_value = "24h", value_parser = parse::duration)]
    cooldown: Duration,

    /// A victim robbed this often within the window is protected
    #[arg(long, env = "HEIST_PROTECTION_AFTER", value_name = "TIMES", default_value = "10", value_parser = parse::robberies)]
    protection_after: usize,

    /// The window in which robberies count for the protection; 0s: no protection
    #[arg(long, env = "HEIST_PROTECTION_WINDOW", value_name = "DURATION", default_value = "48h", value_parser = parse::duration)]
    protection_window: Duration,

    /// Heist calls a minute for one attacker, on each replica; 0: any number
    #[arg(long, env = "HEIST_RATE_LIMIT_PER_MINUTE", value_name = "CALLS", default_value = "10", value_parser = parse::calls_per_minute)]
    rate_limit_per_minute: u32,

    /// Other calls a minute for one player, on each replica; 0: any number
    #[arg(long, env = "HEIST_READ_RATE_LIMIT_PER_MINUTE", value_name = "CALLS", default_value = "60", value_parser = parse::calls_per_minute)]
    read_rate_limit_per_minute: u32,

    /// Whether players are told by e-mail, too
    #[arg(long, env = "HEIST_EMAIL_ENABLED", value_name = "BOOL", default_value = "false", value_parser = parse::switch, action = clap::ArgAction::Set)]
    pub(crate) email_enabled: bool,
}

impl RuleArgs {
    /// Each setting, by its name in the environment, as somebody would write it there.
    fn entries(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        // Spelled out, so that the compiler asks for a new one.
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

/// What a value may look like. An error says what is expected.
pub(crate) mod parse {
    use std::{ops::RangeInclusive, str::FromStr, time::Duration};

    /// Longer than any sensible rule, short enough to be added to any date.
    const LONGEST: Duration = Duration::from_hours(24 * 366);
    /// More would have to be read from the books for each heist.
    const MOST_ROBBERIES: usize = 1000;
    /// More than any replica answers in a minute.
    const MOST_CALLS_PER_MINUTE: u32 = 1_000_000;

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
        whole_number(value, 1..=MOST_ROBBERIES)
    }

    pub(crate) fn calls_per_minute(value: &str) -> Result<u32, String> {
        whole_number(value, 0..=MOST_CALLS_PER_MINUTE)
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

    pub(crate) fn duration(value: &str) -> Result<Duration, String> {
        humantime::parse_duration(value)
            .ok()
            .filter(|duration| *duration <= LONGEST)
            .ok_or_else(|| {
                "expected a duration such as 90s, 24h or 7d, a year at the most".to_owned()
            })
    }
}
