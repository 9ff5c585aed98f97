//! Sends notifications by e-mail. Sending happens after the commit and outside of every call.
//!
//! The transaction that writes a notification also queues its e-mail, in columns of the same row.
//! The worker of each replica claims e-mails that are due, sends them and records the outcomes.
//! Delivery is at most once: the worker commits a claim before it opens a connection, so a crash at
//! any point never causes a second e-mail. An e-mail that certainly did not leave is retried for 24
//! hours.
//!
//! The worker reads an address when it claims the e-mail. Addresses never appear in logs or errors.

mod address;
mod attempt;
mod authorities;
mod claim;
mod http;
mod outcome;
mod proxy;
mod rate;
mod render;
mod secret;
mod sendgrid;
mod smtp;
mod unsubscribe;
mod worker;

use std::{path::PathBuf, sync::Arc};

use lettre::message::Mailbox;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::{
    authorities::Authorities,
    proxy::Proxy,
    rate::Rate,
    render::{Preview, Templates, previews},
    secret::Secret,
    sendgrid::SendGrid,
    smtp::{Smtp, SmtpServer},
    unsubscribe::Unsubscribe,
};
use self::{
    outcome::Outcome,
    render::{RenderedEmail, TemplateFile},
    worker::Worker,
};
use crate::{
    domain::mailing::{Mailing, MailingNow},
    store::{PgPool, emails::LanguageColumn},
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

/// What all e-mails have in common.
#[derive(Clone, Debug)]
pub struct Presentation {
    pub from: Mailbox,
    /// Base URL of the application, to which link paths are appended. `None`: e-mails have no
    /// links.
    pub link_base: Option<Url>,
    pub unsubscribe: Option<Unsubscribe>,
}

/// The provider that accepts our e-mails.
#[derive(Clone, Debug)]
pub enum Provider {
    SendGrid(SendGrid),
    Smtp(Smtp),
}

/// A handle of this replica's worker task.
pub struct Mailer {
    wake: Arc<Notify>,
    stopping: CancellationToken,
    worker: JoinHandle<()>,
}

impl Mailer {
    /// Starts the worker. It claims nothing while `now` returns `None`.
    #[must_use]
    pub fn start(
        pool: PgPool,
        options: Options,
        templates: Watched<Templates>,
        now: MailingNow,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let stopping = CancellationToken::new();
        let worker = Worker::new(
            pool,
            (options, templates),
            now,
            Arc::clone(&wake),
            stopping.clone(),
        );
        Self {
            wake,
            stopping,
            worker: tokio::spawn(worker.run()),
        }
    }

    /// Returns a function that tells the worker that an e-mail was queued. It never blocks.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let wake = Arc::clone(&self.wake);
        move || wake.notify_one()
    }

    /// Tells the worker to claim no further e-mails.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits, after [`Mailer::stop`], until the outcomes of all claimed e-mails are recorded. If
    /// the caller stops waiting earlier, those e-mails become `UNKNOWN` when their claims expire.
    pub async fn finish(self) {
        if let Err(panic) = self.worker.await {
            tracing::error!(error = %panic, "the e-mail worker panicked");
        }
    }
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
    fn name(&self) -> &'static str {
        match self {
            Self::SendGrid(_) => "sendgrid",
            Self::Smtp(_) => "smtp",
        }
    }

    /// The time limit of one attempt.
    fn timeout(&self) -> std::time::Duration {
        match self {
            Self::SendGrid(sendgrid) => sendgrid.timeout,
            Self::Smtp(smtp) => smtp.timeout,
        }
    }

    /// Makes one attempt. When `stopping` is cancelled before any part of the e-mail was handed
    /// over, the attempt ends with [`Outcome::Released`].
    async fn send(
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
