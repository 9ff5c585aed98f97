//! `HEIST_ENABLED=false`: only health, reflection and `GetRules` work.

use tonic::Code::FailedPrecondition;

use crate::harness::{
    World,
    wire::{self, methods_of_the_contract},
};

#[test]
fn every_rpc_is_switched_off() {
    World::setup().switched_off().run(async |world| {
        let ada = world.player("Ada").points(100).tokens(1).await;
        world.player("Ben").points(1000).await;
        assert_eq!(ada.id, 1, "so that the well-formed request names them");
        let well_formed = vec![0x08, 1, 0x10, 2];
        let malformed = [vec![], vec![0xff; 20], vec![0x08, 0]];
        let methods = methods_of_the_contract().into_iter();
        for method in methods.filter(|method| method.name() != "GetRules") {
            for message in malformed.iter().chain([&well_formed]) {
                let call = wire::call(&world.channel, &method, message.clone());
                let refusal = world.refuses(call).await;
                refusal.is(FailedPrecondition, "FEATURE_DISABLED");
            }
        }
    });
}

#[test]
fn health_and_reflection_answer_while_the_feature_is_off() {
    World::setup().switched_off().run(async |world| {
        for service in crate::rpc::health_and_reflection::SERVICES {
            assert!(crate::rpc::health_and_reflection::is_serving(world, service).await);
        }
        let listed = crate::rpc::health_and_reflection::list_services(world).await;
        assert!(listed.contains(&"heist.v1.HeistService".to_owned()));
    });
}
