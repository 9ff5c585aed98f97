//! A gRPC call without a timer in the client. tonic's client ends a call at its deadline with
//! CANCELLED, so that it cannot show what the server answers then.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use h2::client::SendRequest;
use heist::pb::ExecuteHeistRequest;
use http::{HeaderMap, Request};
use prost::{Message as _, bytes::Bytes};
use tokio::net::TcpStream;
use tonic::Code;
use uuid::Uuid;

const PATH: &str = "/heist.v1.HeistService/ExecuteHeist";

pub async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Executes a heist. Returns the status code of the answer.
pub async fn execute_heist(
    client: &SendRequest<Bytes>,
    address: SocketAddr,
    [attacker_id, victim_id]: [i32; 2],
    deadline: Duration,
) -> anyhow::Result<Code> {
    let request = Request::post(format!("http://{address}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", format!("{}u", deadline.as_micros()))
        .body(())?;
    let message = ExecuteHeistRequest {
        attacker_id,
        victim_id,
        request_id: Uuid::now_v7().to_string(),
    };
    let message = message.encode_to_vec();
    // Not compressed, and the length.
    let mut body = vec![0];
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);

    let (answer, mut stream) = client.clone().ready().await?.send_request(request, false)?;
    stream.send_data(body.into(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    if let Some(code) = status(&head.headers) {
        return Ok(code);
    }
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?.context("an answer has trailers")?;
    status(&trailers).context("the trailers have a status")
}

fn status(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}
