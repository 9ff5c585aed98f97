//! Calls below the generated client: any bytes, to any method.

use heist::pb;
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _},
};
use prost_types::FileDescriptorSet;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// An RPC of the contract.
#[derive(Clone, Debug)]
pub struct Method {
    /// Such as `/heist.v1.HeistService/ExecuteHeist`.
    pub path: String,
}

impl Method {
    pub fn named(path: &str) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().expect("a path")
    }
}

/// Every RPC of the three services, as reflection tells them.
pub fn methods_of_the_contract() -> Vec<Method> {
    let descriptors = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).expect("our descriptors");
    let methods: Vec<Method> = (descriptors.file.iter())
        .filter(|file| file.package() == "heist.v1")
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            (service.method.iter()).map(|method| Method {
                path: format!("/heist.v1.{}/{}", service.name(), method.name()),
            })
        })
        .collect();
    assert!(methods.len() >= 17, "{methods:?}");
    methods
}

/// Sends `message` and waits for the first answer. Every method is called as one that streams
/// answers: on the wire that is the same.
pub async fn call(channel: &Channel, method: &Method, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    call_with(channel, method, Request::new(message)).await
}

/// Sends `message` and waits until the answer begins, which a refusal never does.
pub async fn begin(channel: &Channel, method: &Method, message: Vec<u8>) -> Result<(), Status> {
    answers(channel, method, Request::new(message))
        .await
        .map(|_| ())
}

pub async fn call_with(
    channel: &Channel,
    method: &Method,
    request: Request<Vec<u8>>,
) -> Result<Vec<u8>, Status> {
    let mut answers = answers(channel, method, request).await?;
    Ok(answers.message().await?.unwrap_or_default())
}

async fn answers(
    channel: &Channel,
    method: &Method,
    request: Request<Vec<u8>>,
) -> Result<Streaming<Vec<u8>>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the server listens");
    let path = method.path.parse().expect("a path");
    Ok((client.server_streaming(request, path, Bytes).await?).into_inner())
}

/// Passes messages on as they are.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).to_vec()))
    }
}
