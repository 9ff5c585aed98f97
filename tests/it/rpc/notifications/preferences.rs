//! `NotificationService.GetPreferences` and `UpdatePreferences`

use heist::pb::EmailPreference::{Default, Digest, Immediate, Never, Unspecified};
use tonic::Code::NotFound;

use crate::harness::World;

#[test]
fn a_choice_is_stored_until_the_player_makes_another() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        assert_eq!(world.get_preferences(ada.id).await.unwrap(), Default);
        for choice in [Immediate, Digest, Never, Never, Default] {
            let stored = world.update_preferences(ada.id, choice).await.unwrap();
            assert_eq!(stored, choice);
            assert_eq!(world.get_preferences(ada.id).await.unwrap(), choice);
        }
        let ben = world.player("Ben").await;
        world.update_preferences(ada.id, Digest).await.unwrap();
        assert_eq!(world.get_preferences(ben.id).await.unwrap(), Default);
    });
}

#[test]
fn a_choice_must_be_named_and_its_player_must_exist() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let refusal = world
            .refuses(world.update_preferences(ada.id, Unspecified))
            .await;
        refusal.names(&["email"]);
        let absent = ada.id + 1000;
        let refusal = world.refuses(world.update_preferences(absent, Never)).await;
        refusal.is(NotFound, "USER_NOT_FOUND");
        let refusal = world.refuses(world.get_preferences(absent)).await;
        refusal.is(NotFound, "USER_NOT_FOUND");
    });
}

#[test]
fn a_preference_goes_with_its_player() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let id = ada.id;
        world.update_preferences(id, Never).await.unwrap();
        ada.leaves().await;
        let refusal = world.refuses(world.get_preferences(id)).await;
        refusal.is(NotFound, "USER_NOT_FOUND");
    });
}
