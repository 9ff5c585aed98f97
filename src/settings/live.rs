//! The settings in force, which the watched settings file can change.

use super::{
    RuleArgs, Settings,
    file::{self, FileError},
};
use crate::watched::{Watched, WatchedError, WatchedFile};

/// The settings in force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveSettings(Watched<Settings>);

impl LiveSettings {
    /// Settings that do not change.
    #[must_use]
    pub fn fixed(settings: Settings) -> Self {
        Self(Watched::fixed(settings))
    }

    /// Settings that the file overrides, now and after each change of the file. Without an e-mail
    /// configuration the file cannot switch e-mail on: `cannot_mail` then says what is missing.
    ///
    /// # Errors
    ///
    /// The file cannot be read or does not parse. Later errors are logged, and the settings stay as
    /// they are.
    pub async fn watch(
        file: WatchedFile,
        defaults: RuleArgs,
        cannot_mail: Option<String>,
    ) -> Result<Self, WatchedError> {
        let name = file.to_string();
        let mut current = defaults.clone();
        let parse = move |contents: &[Vec<u8>]| {
            let settings = parse(&contents[0], &defaults, cannot_mail.as_deref())
                .map_err(|error| format!("{name}: {error}"))?;
            log_changes(&current, &settings);
            current = settings.clone();
            Ok(settings.into())
        };
        let watched = Watched::open("the settings file", vec![file], parse).await?;
        Ok(Self(watched))
    }

    /// The settings in force at this moment. A call reads them once, so that it keeps the settings
    /// that it began with.
    #[must_use]
    pub fn now(&self) -> Settings {
        (*self.0.newest()).clone()
    }

    /// Resolves when the feature is off.
    pub async fn switched_off(&self) {
        self.0.wait_for(|settings| !settings.enabled).await;
    }
}

fn parse(
    content: &[u8],
    defaults: &RuleArgs,
    cannot_mail: Option<&str>,
) -> Result<RuleArgs, FileError> {
    let settings = file::parse(content, defaults)?;
    match cannot_mail {
        Some(why) if settings.email_enabled => Err(FileError::CannotMail(why.to_owned())),
        _ => Ok(settings),
    }
}

fn log_changes(before: &RuleArgs, after: &RuleArgs) {
    for ((setting, old), (_, new)) in before.entries().zip(after.entries()) {
        if old != new {
            tracing::info!(setting, old, new, "a setting has changed");
        }
    }
}
