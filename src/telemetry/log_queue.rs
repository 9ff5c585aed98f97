//! A bounded queue of log lines, and the thread that writes them to standard error.
//!
//! Logging never blocks: a thread that logs only appends to the queue. If the reader of standard
//! error is slow, the queue fills, and further lines are dropped and counted. Audit lines have a
//! queue of their own, of 4 MiB, and are written before other lines, whose queue has 2 MiB.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The target of audit lines.
pub const AUDIT_TARGET: &str = "heist::audit";

/// The maximum sizes of the queues of audit lines and of all other lines, in bytes.
const MAX_AUDIT_BYTES: usize = 4 * 1024 * 1024;
const MAX_OTHER_BYTES: usize = 2 * 1024 * 1024;
/// The number of bytes after which no further line is added to one write.
const WRITE_BYTES: usize = 64 * 1024;
/// The minimum interval between two lines that report dropped lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

struct Shared {
    lines: Mutex<Lines>,
    /// Notified when lines are waiting, and when all of them have been written.
    changed: Condvar,
    dropped: Dropped,
}

#[derive(Default)]
struct Lines {
    audit: VecDeque<Vec<u8>>,
    other: VecDeque<Vec<u8>>,
    audit_bytes: usize,
    other_bytes: usize,
    /// Whether the thread writes lines that it has taken from the queue.
    is_writing: bool,
}

/// How many lines have been dropped since the start.
#[derive(Default)]
struct Dropped {
    audit: AtomicU64,
    other: AtomicU64,
}

impl LogQueue {
    /// Starts the thread that writes to `output`.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::new();
        let writer = queue.clone();
        thread::Builder::new()
            .name("heist-log".to_owned())
            .spawn(move || writer.write_to(output))?;
        Ok(queue)
    }

    fn new() -> Self {
        Self(Arc::new(Shared {
            lines: Mutex::default(),
            changed: Condvar::new(),
            dropped: Dropped::default(),
        }))
    }

    /// Appends a line, or drops it if the queue is full.
    pub(super) fn push(&self, line: &[u8], is_audit: bool) {
        let mut lines = self.lines();
        let was_empty = lines.is_empty();
        if !lines.push(line, is_audit) {
            let dropped = &self.0.dropped;
            let counter = if is_audit {
                &dropped.audit
            } else {
                &dropped.other
            };
            counter.fetch_add(1, Ordering::Relaxed);
        } else if was_empty {
            drop(lines);
            self.0.changed.notify_all();
        }
    }

    /// Waits until all lines have been written, at most this long.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut lines = self.lines();
        while lines.is_writing || !lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The dropped audit lines and the other dropped lines, since the start.
    pub(super) fn dropped(&self) -> (u64, u64) {
        let Dropped { audit, other } = &self.0.dropped;
        (audit.load(Ordering::Relaxed), other.load(Ordering::Relaxed))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        (self.0.lines.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut output: impl Write) {
        let mut reported = (0, 0);
        let mut may_report = Instant::now();
        loop {
            let taken = self.take();
            // Lines are lost if the reader has closed the pipe. They cannot be logged elsewhere.
            let _ = output.write_all(&taken);
            let dropped = self.dropped();
            if dropped != reported && Instant::now() >= may_report {
                let (audit, other) = (dropped.0 - reported.0, dropped.1 - reported.1);
                tracing::error!(
                    event = "LOG_LINES_DROPPED",
                    audit,
                    other,
                    "standard error is read too slowly"
                );
                reported = dropped;
                may_report = Instant::now() + REPORT_INTERVAL;
            }
        }
    }

    /// Waits for lines, and takes the lines of the next write.
    fn take(&self) -> Vec<u8> {
        let mut lines = self.lines();
        lines.is_writing = false;
        if lines.is_empty() {
            // For `flush`.
            self.0.changed.notify_all();
        }
        while lines.is_empty() {
            let woken = self.0.changed.wait(lines);
            lines = woken.unwrap_or_else(PoisonError::into_inner);
        }
        lines.is_writing = true;
        lines.take()
    }
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.audit.is_empty() && self.other.is_empty()
    }

    /// Appends a line; `false` if there is no room for it.
    fn push(&mut self, line: &[u8], is_audit: bool) -> bool {
        let (lines, bytes, max_bytes) = if is_audit {
            (&mut self.audit, &mut self.audit_bytes, MAX_AUDIT_BYTES)
        } else {
            (&mut self.other, &mut self.other_bytes, MAX_OTHER_BYTES)
        };
        if *bytes + line.len() > max_bytes {
            return false;
        }
        *bytes += line.len();
        lines.push_back(line.to_vec());
        true
    }

    fn take(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < WRITE_BYTES {
            let line = if let Some(line) = self.audit.pop_front() {
                self.audit_bytes -= line.len();
                line
            } else if let Some(line) = self.other.pop_front() {
                self.other_bytes -= line.len();
                line
            } else {
                break;
            };
            taken.extend(line);
        }
        taken
    }
}

/// Writes one line to the queue.
pub(super) struct LineWriter<'a> {
    queue: &'a LogQueue,
    is_audit: bool,
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter {
            queue: self,
            is_audit: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter {
            queue: self,
            is_audit: metadata.target() == AUDIT_TARGET,
        }
    }
}

impl Write for LineWriter<'_> {
    /// The subscriber writes each line with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.is_audit);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that blocks until the test reads from it.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).expect("the test reads");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let queue = LogQueue::new();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..5 {
            queue.push(&line, false);
        }
        assert_eq!(queue.dropped(), (0, 3));
        for _ in 0..6 {
            queue.push(&line, true);
        }
        assert_eq!(queue.dropped(), (2, 3));
    }

    #[test]
    fn audit_lines_are_written_first() {
        let queue = LogQueue::new();
        queue.push(b"1\n", false);
        queue.push(b"2\n", false);
        queue.push(b"audit\n", true);
        assert_eq!(queue.take(), b"audit\n1\n2\n");
    }

    #[test]
    fn a_flush_waits_for_the_output_within_its_limit() {
        let (sender, receiver) = mpsc::sync_channel(0);
        let queue = LogQueue::start(Pipe(sender)).unwrap();
        queue.push(b"1\n", false);
        let begun = Instant::now();
        queue.flush(SOON);
        assert!(begun.elapsed() >= SOON, "the line is not written");

        let reader = thread::spawn(move || {
            let mut written = receiver.recv().unwrap();
            if written == b"1\n" {
                written.extend(receiver.recv().unwrap());
            }
            written
        });
        queue.push(b"2\n", false);
        queue.flush(Duration::from_mins(1));
        assert_eq!(reader.join().unwrap(), b"1\n2\n");
    }
}
