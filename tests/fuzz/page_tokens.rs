//! Forged page tokens: refused before the database is asked.

use heist::pb::ListHeistsRequest;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    fuzz,
    service::{Service, framed},
};

#[test]
fn page_tokens() {
    let service = Service::start();
    fuzz("page_tokens", |input| {
        let page_token = String::from_utf8_lossy(&input.bytes).into_owned();
        if page_token.is_empty() {
            return;
        }
        let request = ListHeistsRequest {
            user_id: 1,
            page_token,
            ..ListHeistsRequest::default()
        };
        let refused = service
            .call(
                "/heist.v1.HeistService/ListHeists",
                framed(&request.encode_to_vec()),
            )
            .expect("it is refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let info = refused.get_details_error_info().expect("it says why");
        assert_eq!(info.reason, "INVALID_PAGE_TOKEN");
    });
}
