//! The types of requests, answers and calls in every layer.

use std::convert::Infallible;

use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, http},
};

pub(super) type HttpRequest = http::Request<Body>;
pub(super) type HttpResponse = http::Response<Body>;
pub(super) type HttpFuture = BoxFuture<HttpResponse, Infallible>;

/// Answers a call without passing it on.
pub(super) fn answer(status: Status) -> HttpFuture {
    Box::pin(async { Ok(status.into_http()) })
}
