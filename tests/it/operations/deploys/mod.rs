//! Servers are replaced under load, behind a real load balancer, without a failed call.
//!
//! They need haproxy and are run by `scripts/test-deploys`, which installs it.

mod balancer;
mod load;

use std::{collections::VecDeque, ffi::OsStr, net::SocketAddr};

use self::{
    balancer::{Balancer, free_address},
    load::Load,
};
use crate::{
    database::migrations::MIGRATION_OF_THE_NEXT_VERSION,
    harness::{
        World,
        process::{Heist, Serving},
    },
};

/// Executed in between.
const HEISTS: u64 = 500;

/// A replica of this version, at an address of its own.
async fn start(world: &World, address: SocketAddr) -> Serving {
    start_program(env!("CARGO_BIN_EXE_heist"), world, address).await
}

/// A replica of the version before, where `HEIST_BEFORE` names its program, else of this one.
async fn start_old(world: &World, address: SocketAddr) -> Serving {
    let program = std::env::var_os("HEIST_BEFORE");
    let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_heist").into());
    start_program(program, world, address).await
}

async fn start_program(program: impl AsRef<OsStr>, world: &World, address: SocketAddr) -> Serving {
    Heist::of_program(program, &["serve"])
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "none")
        .env("HEIST_RATE_LIMIT_PER_MINUTE", "0")
        .env("HEIST_READ_RATE_LIMIT_PER_MINUTE", "0")
        .env("HEIST_COOLDOWN", "0s")
        .env("HEIST_PROTECTION_WINDOW", "0s")
        .env("HEIST_LISTEN", address.to_string())
        .env("HEIST_SHUTDOWN_DELAY", "1s")
        .env("RUST_LOG", "warn,heist::cli=info,heist::health=info")
        .serving()
        .await
}

async fn stop(server: Serving) {
    let ended = server.stopped_by("TERM").await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// What the migration Job of the next version does.
async fn migrate(world: &World) {
    let migrate = Heist::new(&["migrate", "up"]).env("DATABASE_URL", &world.database_url);
    let ended = migrate.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Each table in its own transaction: a transaction that locks several tables that heists write
    // could deadlock with a heist.
    for statement in MIGRATION_OF_THE_NEXT_VERSION.split_inclusive(";\n") {
        world.execute(statement).await;
    }
}

async fn finish(load: Load, deploy: &str) {
    let outcome = load.finish().await;
    outcome.print(deploy);
    assert_eq!(outcome.failed, 0);
    assert_eq!(outcome.unaccounted, 0);
    assert!(outcome.streams_resumed > 0);
}

#[test]
#[ignore = "needs haproxy: scripts/test-deploys"]
fn two_replicas_are_replaced_one_after_the_other() {
    World::run(async |world| {
        let addresses = [free_address(), free_address()];
        let mut servers = VecDeque::new();
        for address in addresses {
            servers.push_back(start_old(world, address).await);
        }
        let balancer = Balancer::start("rolling", &addresses).await;
        balancer.sees_ready(&[0, 1]).await;
        let load = Load::start(world, balancer.address).await;
        load.goes_on(HEISTS).await;

        migrate(world).await;
        for (number, address) in addresses.into_iter().enumerate() {
            stop(servers.pop_front().unwrap()).await;
            load.goes_on(HEISTS).await;
            servers.push_back(start(world, address).await);
            balancer.sees_ready(&[number]).await;
            load.goes_on(HEISTS).await;
        }

        finish(load, "rolling").await;
        for server in servers {
            stop(server).await;
        }
    });
}

#[test]
#[ignore = "needs haproxy: scripts/test-deploys"]
fn green_takes_over_from_blue_and_back_and_again() {
    World::run(async |world| {
        let addresses = [(); 4].map(|()| free_address());
        let (blue, green) = ([0, 1], [2, 3]);
        let mut blues = Vec::new();
        for number in blue {
            blues.push(start_old(world, addresses[number]).await);
        }
        let balancer = Balancer::start("blue-green", &addresses).await;
        balancer.switch(&blue, &green).await;
        let load = Load::start(world, balancer.address).await;
        load.goes_on(HEISTS).await;

        migrate(world).await;
        let mut greens = Vec::new();
        for number in green {
            greens.push(start(world, addresses[number]).await);
        }
        for (to, from) in [(&green, &blue), (&blue, &green), (&green, &blue)] {
            balancer.switch(to, from).await;
            load.goes_on(HEISTS).await;
        }
        for server in blues {
            stop(server).await;
            load.goes_on(HEISTS).await;
        }

        finish(load, "blue/green").await;
        for server in greens {
            stop(server).await;
        }
    });
}
