//! Requests that are not gRPC calls, and unary calls with more than one message, change nothing.

use heist::pb;
use http::{Method, Request, StatusCode};
use prost::{Message as _, bytes::Bytes};
use tokio::net::TcpStream;
use tonic::Status;
use uuid::Uuid;

use crate::harness::{Player, Refusal, World};

/// Sends a request as it is, and returns its HTTP status and its gRPC status.
async fn send(
    world: &World,
    method: Method,
    content_types: &[&str],
    body: Vec<u8>,
) -> (StatusCode, Option<Status>) {
    let io = TcpStream::connect(world.address).await.unwrap();
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri("http://heist/heist.v1.HeistService/ExecuteHeist")
        .header("te", "trailers");
    for content_type in content_types {
        request = request.header("content-type", *content_type);
    }
    let mut client = client.ready().await.unwrap();
    let (answer, mut sent) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    // The server may refuse the call before it has the body.
    let _ = sent.send_data(Bytes::from(body), true);
    let answer = answer.await.unwrap();
    let status = Status::from_header_map(answer.headers());
    (answer.status(), status)
}

fn heist(attacker: &Player, victim: &Player) -> Vec<u8> {
    let message = pb::ExecuteHeistRequest {
        attacker_id: attacker.id,
        victim_id: victim.id,
        request_id: String::new(),
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

#[test]
fn other_content_types_are_refused_and_execute_nothing() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(5).await;
        let ben = world.player("Ben").points(1000).await;
        for content_types in [
            &[][..],
            &["text/plain"],
            &["application/json"],
            &["application/grpc-web"],
            &["application/grpc-web+proto"],
            &["application/grpc+json"],
            &["application/grpc", "text/plain"],
        ] {
            let body = heist(&ada, &ben);
            let (http, grpc) = send(world, Method::POST, content_types, body).await;
            assert_eq!(
                http,
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{content_types:?}"
            );
            assert!(grpc.is_none());
        }
        let body = heist(&ada, &ben);
        let (http, _) = send(world, Method::GET, &["application/grpc"], body).await;
        assert_eq!(http, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ben.points().await, 1000);

        let body = heist(&ada, &ben);
        let (http, grpc) = send(world, Method::POST, &["application/grpc+proto"], body).await;
        assert_eq!((http, grpc.is_none()), (StatusCode::OK, true));
        assert_eq!(ben.points().await, 950);
    });
}

#[test]
fn a_unary_call_with_two_messages_is_refused_and_executes_nothing() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(5).await;
        let ben = world.player("Ben").points(1000).await;
        let message = heist(&ada, &ben);
        for body in [
            [&message[..], &message].concat(),
            [&message[..], &[0]].concat(),
            [&message[..], &[0, 0, 0, 0, 0]].concat(),
        ] {
            let (http, grpc) = send(world, Method::POST, &["application/grpc"], body).await;
            assert_eq!(http, StatusCode::OK);
            Refusal::from(grpc.unwrap()).is(tonic::Code::InvalidArgument, "INVALID_REQUEST");
        }
        assert_eq!(ben.points().await, 1000);
    });
}

#[test]
fn the_nil_uuid_is_no_request_id() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(5).await;
        let ben = world.player("Ben").points(1000).await;
        let refused = ada.robs_with_id(&Uuid::nil().to_string(), &ben).await;
        Refusal::from(refused.unwrap_err()).is(tonic::Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(ben.points().await, 1000);
    });
}
