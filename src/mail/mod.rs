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
mod options;
mod outcome;
mod presentation;
mod proxy;
mod rate;
mod render;
mod secret;
mod sendgrid;
mod smtp;
mod unsubscribe;
mod worker;

use std::sync::Arc;

use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::worker::Worker;
pub use self::{
    authorities::Authorities,
    options::{Options, Provider, TemplateOptions},
    presentation::Presentation,
    proxy::Proxy,
    rate::Rate,
    render::{Preview, Templates, previews},
    secret::Secret,
    sendgrid::SendGrid,
    smtp::{Smtp, SmtpServer},
    unsubscribe::Unsubscribe,
};
use crate::{domain::mailing::MailingNow, store::PgPool, watched::Watched};

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
