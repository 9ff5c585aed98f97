//! The body of an answer. Its trailers hold the status of the call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::call::Call;

/// Passes an answer on, and records its status.
pub struct ObservedBody {
    body: Body,
    /// The observed call, which ends when it is dropped, if not before; `None`: the call is not
    /// observed.
    call: Option<Call>,
}

impl ObservedBody {
    pub(super) fn new(body: Body, call: Call) -> Self {
        Self {
            body,
            call: Some(call),
        }
    }

    pub(in crate::rpc::layers) fn unobserved(body: Body) -> Self {
        Self { body, call: None }
    }
}

impl http_body::Body for ObservedBody {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some(Ok(frame)), Some(call)) = (&frame, &mut self.call)
            && let Some(trailers) = frame.trailers_ref()
        {
            call.end_with(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
