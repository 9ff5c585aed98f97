//! Sends notifications by e-mail, after the commit and apart from every call.
//!
//! A notification is queued in the transaction that writes it, as a part of its row. Every replica
//! has a worker, which claims what is due, sends it, and writes what became of it. The claim is
//! committed before anything is sent: what may have left is never sent again by itself, whoever
//! dies when. What surely did not leave is tried again for a day.
//!
//! Addresses are read when a mail is sent, and are in no log and no error.

mod authorities;
mod http;
mod letter;
mod outcome;
mod rate;
mod secret;
mod sendgrid;
mod smtp;
mod unsubscribe;
mod worker;

use std::sync::Arc;

use lettre::message::Mailbox;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::{
    authorities::Authorities,
    rate::Rate,
    secret::Secret,
    sendgrid::SendGrid,
    smtp::{Smtp, SmtpServer},
    unsubscribe::Unsubscribe,
};
use self::{letter::Letter, outcome::Outcome, worker::Worker};
use crate::{
    domain::mailing::{Mailing, MailingNow},
    store::PgPool,
};

/// What mail is sent, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub mailing: Mailing,
    pub provider: Provider,
    /// The most that all replicas send together.
    pub rate: Rate,
    pub presentation: Presentation,
}

/// What every mail has in common.
#[derive(Clone, Debug)]
pub struct Presentation {
    pub from: Mailbox,
    /// Where the application is; links go below it. None: no links.
    pub link_base: Option<Url>,
    pub unsubscribe: Option<Unsubscribe>,
}

/// Who takes mail from us.
#[derive(Clone, Debug)]
pub enum Provider {
    SendGrid(SendGrid),
    Smtp(Smtp),
}

/// The worker of this replica.
pub struct Mailer {
    wake: Arc<Notify>,
    stopping: CancellationToken,
    worker: JoinHandle<()>,
}

impl Mailer {
    /// Sends nothing as long as nobody is to be mailed `now`.
    #[must_use]
    pub fn start(pool: PgPool, options: Options, now: MailingNow) -> Self {
        let wake = Arc::new(Notify::new());
        let stopping = CancellationToken::new();
        let worker = Worker::new(pool, options, now, Arc::clone(&wake), stopping.clone());
        Self {
            wake,
            stopping,
            worker: tokio::spawn(worker.run()),
        }
    }

    /// What says that something was queued.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let wake = Arc::clone(&self.wake);
        move || wake.notify_one()
    }

    /// Begins no more mails.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until it is known what became of the mails that were begun, after [`Mailer::stop`].
    /// What is given up before counts as unknown when its claim ends.
    pub async fn finish(self) {
        if let Err(panic) = self.worker.await {
            tracing::error!(error = %panic, "the mail worker panicked");
        }
    }
}

impl Provider {
    /// As the database calls it.
    fn name(&self) -> &'static str {
        match self {
            Self::SendGrid(_) => "sendgrid",
            Self::Smtp(_) => "smtp",
        }
    }

    /// The longest that an attempt takes.
    fn timeout(&self) -> std::time::Duration {
        match self {
            Self::SendGrid(sendgrid) => sendgrid.timeout,
            Self::Smtp(smtp) => smtp.timeout,
        }
    }

    /// Tries once. Gives up as long as nothing has left when it is `stopping`.
    async fn send(&self, from: &Mailbox, letter: &Letter, stopping: &CancellationToken) -> Outcome {
        match self {
            Self::SendGrid(sendgrid) => sendgrid.send(from, letter, stopping).await,
            Self::Smtp(smtp) => smtp.send(from, letter, stopping).await,
        }
    }
}
