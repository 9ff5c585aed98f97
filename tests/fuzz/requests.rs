//! Bytes of a request, to every RPC: never a panic, always an answer that callers can expect.

use heist::pb;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::{
    fuzz,
    service::{Service, framed},
};

/// What a request may come to that gets no further than a database that is away.
const EXPECTED: [Code; 5] = [
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::Unavailable,
    // Of tonic: no such message, or a message that is too long.
    Code::Internal,
    Code::OutOfRange,
];

/// Every RPC, as `heist.v1.Service/Method`.
fn rpcs() -> Vec<String> {
    let descriptors = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).expect("our descriptors");
    (descriptors.file.iter())
        .filter(|file| file.package() == "heist.v1")
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            let path = |method: &str| format!("heist.v1.{}/{method}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect()
}

#[test]
fn requests() {
    let service = Service::start();
    let rpcs = rpcs();
    fuzz("requests", |input| {
        let called = format!("/{}", input.name);
        let rpc = rpcs
            .iter()
            .find(|rpc| rpc.ends_with(&called))
            .expect("an RPC");
        if let Some(status) = service.call(&format!("/{rpc}"), framed(&input.bytes)) {
            assert!(EXPECTED.contains(&status.code()), "{status:?}");
        }
    });
}

#[test]
fn the_corpus_has_a_request_for_every_rpc() {
    let names: Vec<String> = (crate::corpus("requests").into_iter())
        .map(|input| input.name)
        .collect();
    for rpc in rpcs() {
        let (_, method) = rpc.split_once('/').expect("a path");
        assert!(names.iter().any(|name| name == method), "none for {method}");
    }
}

#[test]
fn frames() {
    let service = Service::start();
    fuzz("frames", |input| {
        let _ = service.call("/heist.v1.HeistService/ExecuteHeist", input.bytes.clone());
    });
}
