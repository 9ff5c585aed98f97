//! The settings as they are now, which the watched file may change.

use std::{future::pending, path::PathBuf, time::Duration};

use tokio::{sync::watch, time::sleep};

use super::{
    RuleArgs, Settings,
    file::{self, FileError},
};

/// How often the file is looked at. A change takes effect when it was seen twice in a row, so
/// that a file which is just being written is not taken for a whole one: after a second at the
/// latest.
const LOOK_AGAIN: Duration = Duration::from_millis(400);

/// The settings as they are now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveSettings(watch::Receiver<Settings>);

impl LiveSettings {
    /// Settings that stay as they are.
    #[must_use]
    pub fn fixed(settings: Settings) -> Self {
        Self(watch::channel(settings).1)
    }

    /// Settings that the file overrides, now and whenever it changes, until nobody reads them
    /// any more. E-mail cannot be switched on where it is not set up: `cannot_mail` says what is
    /// missing. Content is compared, not names or times: so a symlink that is swapped, as
    /// Kubernetes does with a mounted configuration, is a change like any other.
    ///
    /// # Errors
    ///
    /// What is wrong with the file as it is now. Later on a file that is wrong, or gone, changes
    /// nothing and is logged.
    pub async fn watch(
        file: PathBuf,
        defaults: RuleArgs,
        cannot_mail: Option<String>,
    ) -> Result<Self, FileError> {
        let content = file::read(&file).await?;
        let current = parse(&content, &defaults, cannot_mail.as_deref())?;
        log_changes(&defaults, &current);
        let (publish, settings) = watch::channel(current.clone().into());
        let watcher = Watcher {
            file,
            defaults,
            cannot_mail,
            current,
            seen: Ok(content.clone()),
            judged: Ok(content),
            publish,
        };
        tokio::spawn(watcher.run());
        Ok(Self(settings))
    }

    /// What holds at this moment. Whoever needs it twice for one call asks once.
    #[must_use]
    pub fn now(&self) -> Settings {
        self.0.borrow().clone()
    }

    /// Resolves when the feature is off.
    pub async fn switched_off(&self) {
        let mut settings = self.0.clone();
        if settings
            .wait_for(|settings| !settings.enabled)
            .await
            .is_err()
        {
            // Nobody is left who could switch it off.
            pending::<()>().await;
        }
    }
}

type Content = Result<Vec<u8>, FileError>;

struct Watcher {
    file: PathBuf,
    /// What holds where the file says nothing.
    defaults: RuleArgs,
    cannot_mail: Option<String>,
    current: RuleArgs,
    /// At the last look.
    seen: Content,
    /// What was last taken over or refused.
    judged: Content,
    publish: watch::Sender<Settings>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.publish.closed() => return,
                () = sleep(LOOK_AGAIN) => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        let content = file::read(&self.file).await;
        let settled = content == self.seen;
        self.seen = content;
        if !settled || self.seen == self.judged {
            return;
        }
        self.judged.clone_from(&self.seen);
        let parsed = (self.judged.as_ref())
            .map_err(Clone::clone)
            .and_then(|content| parse(content, &self.defaults, self.cannot_mail.as_deref()));
        match parsed {
            Ok(settings) => {
                log_changes(&self.current, &settings);
                self.publish.send_replace(settings.clone().into());
                self.current = settings;
            }
            Err(error) => {
                let file = self.file.display();
                tracing::error!(%file, %error, "the settings file is refused; all settings stay as they were");
            }
        }
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
