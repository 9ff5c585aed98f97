//! `HeistService.GetRules`

use heist::pb::GetRulesRequest;

use crate::harness::World;

#[test]
fn the_rules_in_force_are_returned() {
    World::run(async |world| {
        let rules = world.get_rules(GetRulesRequest {}).await.unwrap();
        assert!(rules.enabled);
        assert_eq!(rules.steal_percentage, 5);
        assert_eq!(rules.max_steal_points, 100);
        assert_eq!(rules.min_target_points, 20);
        assert_eq!(rules.protection.unwrap().robberies, 10);
    });
}

#[test]
fn the_rules_are_returned_while_the_feature_is_off() {
    World::setup().switched_off().run(async |world| {
        let rules = world.get_rules(GetRulesRequest {}).await.unwrap();
        assert!(!rules.enabled);
    });
}
