//! The body of a request: it must arrive in time, hold one message, and fit the memory for calls.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body, codegen::Bytes};

use super::memory::{CallMemory, Share};
use crate::rpc::{methods::Messages, status};

/// The size of a message's prefix: one byte says whether the message is compressed, and four bytes
/// hold its length.
const PREFIX_BYTES: usize = 5;

/// Passes a request on. The length that a message announces is checked and its memory reserved
/// before the message arrives.
pub(super) struct RequestBody {
    body: Body,
    due: Instant,
    /// Created when the body is first awaited.
    late: Option<Pin<Box<Sleep>>>,
    allowed: Messages,
    /// The memory from which each message is reserved; `None`: the messages are small and not
    /// counted.
    memory: Option<CallMemory>,
    shares: Vec<Share>,
    prefix: Vec<u8>,
    /// Bytes of the current message that have not arrived.
    missing: usize,
    messages: usize,
}

impl RequestBody {
    pub(super) fn new(
        body: Body,
        due: Instant,
        allowed: Messages,
        memory: Option<CallMemory>,
    ) -> Self {
        Self {
            body,
            due,
            late: None,
            allowed,
            memory,
            shares: Vec::new(),
            prefix: Vec::with_capacity(PREFIX_BYTES),
            missing: 0,
            messages: 0,
        }
    }

    fn check(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            if self.prefix.is_empty() && !self.allowed.many && self.messages == 1 {
                return Err(status::second_message());
            }
            let taken = (PREFIX_BYTES - self.prefix.len()).min(bytes.len());
            self.prefix.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let [_, length @ ..] = &self.prefix[..]
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.begin(u32::from_be_bytes(length))?;
            }
        }
        Ok(())
    }

    /// Begins a message of this length.
    fn begin(&mut self, length: u32) -> Result<(), Status> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.allowed.max_bytes {
            return Err(status::message_too_large(length, self.allowed.max_bytes));
        }
        if let Some(memory) = &self.memory {
            let share = memory.reserve(length).ok_or_else(status::overloaded)?;
            self.shares.push(share);
        }
        self.prefix.clear();
        self.missing = length;
        self.messages += 1;
        Ok(())
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame
                && let Some(bytes) = frame.data_ref()
            {
                self.check(bytes)?;
            }
            return Poll::Ready(frame);
        }
        if self.allowed.many && self.messages > 0 && self.missing == 0 {
            // A stream of requests may pause between its messages.
            return Poll::Pending;
        }
        let due = self.due;
        let late = (self.late).get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(late.as_mut().poll(context));
        Poll::Ready(Some(Err(status::request_too_late())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn, time::Duration};

    use http_body::Body as _;
    use tonic::Code;

    use super::*;

    const ONE: Messages = Messages {
        max_bytes: 100,
        many: false,
    };

    /// These chunks, and then nothing more.
    struct Chunks(VecDeque<Vec<u8>>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk.into())))),
                None => Poll::Pending,
            }
        }
    }

    fn body(chunks: &[&[u8]], allowed: Messages, memory: Option<CallMemory>) -> RequestBody {
        let chunks = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        let due = Instant::now() + Duration::from_secs(10);
        RequestBody::new(Body::new(Chunks(chunks)), due, allowed, memory)
    }

    /// The error in which the body ends.
    async fn error_of(mut body: RequestBody) -> Code {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            if let Err(status) = frame.unwrap() {
                return status.code();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_arrive_times_out() {
        let begun = Instant::now();
        for chunks in [
            &[][..],
            &[&b"\0\0"[..]],
            &[&b"\0\0\0\0\x02"[..], b"x"],
            &[&b"\0\0\0\0\0"[..]],
        ] {
            let code = error_of(body(chunks, ONE, None)).await;
            assert_eq!(code, Code::DeadlineExceeded);
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_message_is_refused_from_its_first_byte() {
        for chunks in [
            &[&b"\0\0\0\0\x01x\0"[..]][..],
            &[&b"\0\0\0\0\x01"[..], b"x", b"\0\0\0\0\x01x"],
            &[&b"\0"[..], b"\0\0\0\0", b"\0"],
        ] {
            let code = error_of(body(chunks, ONE, None)).await;
            assert_eq!(code, Code::InvalidArgument);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_too_large_by_the_length_that_it_announces() {
        let code = error_of(body(&[b"\0\0\0\0\x65"], ONE, None)).await;
        assert_eq!(code, Code::OutOfRange);
        let code = error_of(body(&[b"\0\xff\xff\xff\xff"], ONE, None)).await;
        assert_eq!(code, Code::OutOfRange);
    }

    #[tokio::test(start_paused = true)]
    async fn an_announced_length_that_does_not_fit_the_memory_is_refused() {
        let memory = CallMemory::new(150);
        let mut first = body(&[b"\0\0\0\0\x64"], ONE, Some(memory.clone()));
        let frame = poll_fn(|context| Pin::new(&mut first).poll_frame(context)).await;
        frame.unwrap().unwrap();
        let second = || body(&[b"\0\0\0\0\x64"], ONE, Some(memory.clone()));
        assert_eq!(error_of(second()).await, Code::Unavailable);
        drop(first);
        assert_eq!(error_of(second()).await, Code::DeadlineExceeded);
    }
}
