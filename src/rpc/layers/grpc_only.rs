//! Refuses HTTP requests that are not gRPC calls, before any other layer sees them.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service},
};

use super::{http_types::HttpRequest, observe::ObservedBody};
use crate::rpc::connection_info::count_refusal;

type Response = http::Response<ObservedBody>;

/// A service that is called for gRPC requests only. A request with another content type is answered
/// with 415, as the gRPC specification says, and one with another HTTP method than POST with 405.
#[derive(Clone)]
pub struct GrpcOnly<S>(S);

impl<S> GrpcOnly<S> {
    pub(super) fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> Service<HttpRequest> for GrpcOnly<S>
where
    S: Service<
            HttpRequest,
            Response = Response,
            Error = Infallible,
            Future = BoxFuture<Response, Infallible>,
        >,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let refusal = if request.method() != Method::POST {
            StatusCode::METHOD_NOT_ALLOWED
        } else if !is_grpc(request.headers()) {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        } else {
            return self.0.call(request);
        };
        count_refusal(&request);
        let mut response = Response::new(ObservedBody::unobserved(Body::empty()));
        *response.status_mut() = refusal;
        Box::pin(async { Ok(response) })
    }
}

/// Whether the request has exactly one content type, and it is gRPC with Protobuf messages.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let media_type = only.as_bytes().split(|byte| *byte == b';').next();
    let media_type = media_type.unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|grpc| media_type.eq_ignore_ascii_case(grpc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_with_protobuf_passes() {
        let is = |types: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, value.parse().unwrap());
            }
            is_grpc(&headers)
        };
        assert!(is(&["application/grpc"]));
        assert!(is(&["application/grpc+proto"]));
        assert!(is(&["Application/GRPC; charset=utf-8"]));
        for other in [
            "",
            "text/plain",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcx",
        ] {
            assert!(!is(&[other]), "{other}");
        }
        assert!(!is(&[]));
        assert!(!is(&["application/grpc", "text/plain"]));
    }
}
