//! The body of an answer: it keeps the resources of its call until the caller has read it, or has
//! left it unread for too long.
//!
//! HTTP/2 does not poll a body while the caller's flow-control window is closed, so the body cannot
//! time out by itself. [`UnreadAnswers`] holds a reference to each body and drops those that have
//! waited for [`READ_TIMEOUT`].

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http_body::Frame;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::{Status, body::Body, codegen::Bytes};

use crate::rpc::{connection_info::ConnectionUsage, status};

/// The time for which a caller may leave an answer, or the next item of a stream, unread.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval between two searches for unread answers.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// All answers that have not been read to their end. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::rpc) struct UnreadAnswers(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    next: u64,
    all: HashMap<u64, Arc<Mutex<Answer>>>,
}

struct Answer {
    /// `None`: it has been read to its end, or dropped unread.
    body: Option<Body>,
    /// Since when data has been waiting for the caller; `None`: the caller waits for data.
    unread_since: Option<Instant>,
    /// What the call holds besides its body.
    resources: Option<Resources>,
    connection: Option<Arc<ConnectionUsage>>,
}

/// Slots and memory of a call, which are freed when they are dropped.
pub(super) type Resources = Box<dyn Send>;

/// The body of an answer that has not been read to its end.
pub(super) struct ResponseBody {
    answer: Arc<Mutex<Answer>>,
    key: u64,
    answers: UnreadAnswers,
}

impl UnreadAnswers {
    /// Drops answers that are left unread, until the last clone is gone.
    pub(in crate::rpc) fn start_sweeping(&self) {
        let answers = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut ticks = interval(SWEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(answers) = Weak::upgrade(&answers) else {
                    return;
                };
                Self(answers).sweep(Instant::now());
            }
        });
    }

    fn sweep(&self, now: Instant) {
        // Collected first, because an answer must not be dropped under the lock.
        let all: Vec<Arc<Mutex<Answer>>> = self.lock().all.values().cloned().collect();
        for answer in all {
            let mut answer = lock(&answer);
            let since = answer.unread_since;
            if since.is_some_and(|since| since + READ_TIMEOUT <= now) && answer.body.is_some() {
                let given_up = (answer.body.take(), answer.resources.take());
                let connection = answer.connection.take();
                drop(answer);
                drop(given_up);
                if let Some(connection) = connection {
                    connection.count_unread_answer();
                }
            }
        }
    }

    /// A body that is watched, and frees `resources` at its end.
    pub(super) fn watch(
        &self,
        body: Body,
        resources: Resources,
        connection: Option<Arc<ConnectionUsage>>,
    ) -> ResponseBody {
        let answer = Arc::new(Mutex::new(Answer {
            body: Some(body),
            unread_since: Some(Instant::now()),
            resources: Some(resources),
            connection,
        }));
        let mut answers = self.lock();
        let key = answers.next;
        answers.next += 1;
        answers.all.insert(key, Arc::clone(&answer));
        drop(answers);
        ResponseBody {
            answer,
            key,
            answers: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let removed = self.answers.lock().all.remove(&self.key);
        drop(removed);
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut answer = lock(&self.answer);
        let Some(body) = &mut answer.body else {
            return Poll::Ready(Some(Err(status::unread_answer())));
        };
        let frame = Pin::new(body).poll_frame(context);
        answer.unread_since = frame.is_ready().then(Instant::now);
        if let Poll::Ready(None) = frame {
            answer.unread_since = None;
            answer.resources = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.answer);
        answer
            .body
            .as_ref()
            .is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let answer = lock(&self.answer);
        (answer.body.as_ref()).map_or_else(http_body::SizeHint::default, http_body::Body::size_hint)
    }
}

fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn answer(answers: &UnreadAnswers) -> (ResponseBody, Weak<()>) {
        let resource = Arc::new(());
        let held = Arc::downgrade(&resource);
        let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"points")));
        (answers.watch(body, Box::new(resource), None), held)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_its_resources_until_it_is_read() {
        let answers = UnreadAnswers::default();
        let (mut body, held) = answer(&answers);
        assert!(held.upgrade().is_some());
        while poll_fn(|context| Pin::new(&mut body).poll_frame(context))
            .await
            .is_some()
        {}
        assert!(held.upgrade().is_none());
        drop(body);
        assert!(answers.lock().all.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_left_unread_is_given_up() {
        let answers = UnreadAnswers::default();
        let (mut body, held) = answer(&answers);
        answers.sweep(Instant::now() + READ_TIMEOUT / 2);
        assert!(held.upgrade().is_some());
        answers.sweep(Instant::now() + READ_TIMEOUT);
        assert!(held.upgrade().is_none());
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        frame.unwrap().unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_reads_no_answers_is_closed() {
        let answers = UnreadAnswers::default();
        let closed = CancellationToken::new();
        let usage = Arc::new(ConnectionUsage::new(false, closed.clone()));
        let unread: Vec<_> = (0..100)
            .map(|_| {
                let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"points")));
                answers.watch(body, Box::new(()), Some(Arc::clone(&usage)))
            })
            .collect();
        assert!(!closed.is_cancelled());
        answers.sweep(Instant::now() + READ_TIMEOUT);
        assert!(closed.is_cancelled());
        drop(unread);
    }
}
