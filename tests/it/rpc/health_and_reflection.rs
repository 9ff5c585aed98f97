//! Health checks and reflection, as Kubernetes and grpcurl use them, and methods that do not exist.

use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{
    World,
    wire::{self, Method, methods_of_the_contract},
};

/// The names that health checks accept; the empty name is the whole server.
pub const SERVICES: [&str; 4] = [
    "",
    "heist.v1.HeistService",
    "heist.v1.NotificationService",
    "heist.v1.TokenService",
];

async fn health(world: &World, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(world.channel.clone())
        .check(request)
        .await?;
    Ok(answer.into_inner().status())
}

pub async fn is_serving(world: &World, service: &str) -> bool {
    health(world, service).await.unwrap() == ServingStatus::Serving
}

async fn reflect(world: &World, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut answers = ServerReflectionClient::new(world.channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    answer.message_response.unwrap()
}

pub async fn list_services(world: &World) -> Vec<String> {
    match reflect(world, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(listed) => listed
            .service
            .into_iter()
            .map(|service| service.name)
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_and_each_service_are_healthy() {
    World::run(async |world| {
        for service in SERVICES {
            assert!(is_serving(world, service).await, "{service}");
        }
        let unknown = health(world, "heist.v1.Nothing").await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    });
}

#[test]
fn reflection_lists_the_services() {
    World::run(async |world| {
        let listed = list_services(world).await;
        for service in &SERVICES[1..] {
            assert!(listed.iter().any(|name| name == service), "{listed:?}");
        }
        assert!(
            listed.iter().any(|name| name == "grpc.health.v1.Health"),
            "{listed:?}"
        );
    });
}

#[test]
fn reflection_describes_every_rpc() {
    World::run(async |world| {
        for method in methods_of_the_contract() {
            let symbol = method.path[1..].replace('/', ".");
            let answer = reflect(world, MessageRequest::FileContainingSymbol(symbol)).await;
            assert!(
                matches!(answer, MessageResponse::FileDescriptorResponse(_)),
                "{method:?}: {answer:?}"
            );
        }
    });
}

#[test]
fn every_rpc_of_the_contract_is_there() {
    World::run(async |world| {
        for method in methods_of_the_contract() {
            // It takes an empty request and never ends.
            if method.name() == "WatchPoints" {
                continue;
            }
            let answer = wire::call(&world.channel, &method, vec![]).await;
            let code = answer.err().map(|status| status.code());
            assert_ne!(code, Some(Code::Unimplemented), "{method:?}");
        }
    });
}

#[test]
fn methods_that_do_not_exist_are_unimplemented() {
    World::run(async |world| {
        for path in [
            "/heist.v1.HeistService/Nothing",
            "/heist.v2.HeistService/ExecuteHeist",
            "/nothing",
        ] {
            let method = Method::named(path);
            let refusal = world
                .refuses(wire::call(&world.channel, &method, vec![]))
                .await;
            assert_eq!(refusal.code(), Code::Unimplemented, "{path}");
        }
    });
}
