//! The options of this part, which the configuration fills in.

use std::{path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use tokio_util::sync::CancellationToken;

use super::{
    Presentation, Rate, SendGrid, Smtp, Templates,
    outcome::Outcome,
    render::{RenderedEmail, TemplateFile},
};
use crate::{
    domain::mailing::Mailing,
    store::emails::LanguageColumn,
    watched::{Watched, WatchedError, WatchedFile},
};

/// Which e-mails are sent, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub mailing: Mailing,
    pub provider: Provider,
    /// The limit for all replicas together.
    pub rate: Rate,
    pub presentation: Presentation,
    pub templates: TemplateOptions,
}

/// Where the words of e-mails come from.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// A folder with templates that replace the built-in ones.
    pub folder: Option<PathBuf>,
    /// The language of players without a language, or with one that has no templates.
    pub default_language: String,
    /// The column of the application's table of players that holds the language.
    pub language_column: Option<LanguageColumn>,
}

/// The provider that accepts our e-mails.
#[derive(Clone, Debug)]
pub enum Provider {
    SendGrid(SendGrid),
    Smtp(Smtp),
}

impl TemplateOptions {
    /// Compiles the templates, and compiles them again when their files change.
    ///
    /// # Errors
    ///
    /// One line for each problem.
    pub async fn open(&self) -> Result<Watched<Templates>, WatchedError> {
        let files = (self.folder.as_deref().map(Templates::list).transpose())
            .map_err(WatchedError::Unusable)?
            .unwrap_or_default();
        let paths = (files.iter().map(TemplateFile::path))
            .map(WatchedFile::from)
            .collect();
        let default_language = self.default_language.clone();
        Watched::open("e-mail templates", paths, move |contents| {
            Templates::new(&files, contents, &default_language)
        })
        .await
    }
}

impl Default for TemplateOptions {
    /// The built-in templates, in English.
    fn default() -> Self {
        Self {
            folder: None,
            default_language: "en".to_owned(),
            language_column: None,
        }
    }
}

impl Provider {
    /// Its name in the database.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::SendGrid(_) => "sendgrid",
            Self::Smtp(_) => "smtp",
        }
    }

    /// The time limit of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::SendGrid(sendgrid) => sendgrid.timeout,
            Self::Smtp(smtp) => smtp.timeout,
        }
    }

    /// Makes one attempt. When `stopping` is cancelled before any part of the e-mail was handed
    /// over, the attempt ends with [`Outcome::Released`].
    pub(super) async fn send(
        &self,
        from: &Mailbox,
        email: &RenderedEmail,
        stopping: &CancellationToken,
    ) -> Outcome {
        match self {
            Self::SendGrid(sendgrid) => sendgrid.send(from, email, stopping).await,
            Self::Smtp(smtp) => smtp.send(from, email, stopping).await,
        }
    }
}
