//! Property tests of the rules as pure functions: invariants of every batch.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use heist::domain::{
    adjustment::{self, AdjustmentFacts, AdjustmentOrder, AdjustmentOutcome},
    award::{self, AwardFacts, AwardOrder, AwardOutcome},
    eligibility::Snapshot,
    heist::{Heist, HeistFacts, HeistOrder, HeistOutcome, decide},
    ids::{AdjustmentId, AwardId, HeistId, RequestId, UserId},
    leaderboard::{Distribution, PageEnd, Place, Standing, rank},
    rules::{Player, Protection, Refusal, Rules},
    tokens::TokenAccount,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use time::OffsetDateTime;
use uuid::Uuid;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
/// Few players and ids, so that orders meet.
const PLAYERS: i32 = 5;
const REQUEST_IDS: u128 = 12;

fn user(id: i32) -> UserId {
    UserId::new(id).unwrap()
}

fn rules() -> impl Strategy<Value = Rules> {
    let protection = option::of((1..4_usize, 1..48_u64));
    (1..=100, option::of(1..200), 0..100, 0..48_u64, protection).prop_map(
        |(steal_percentage, max_steal_points, min_target_points, cooldown, protection)| Rules {
            steal_percentage,
            max_steal_points,
            min_target_points,
            cooldown: Duration::from_hours(cooldown),
            protection: protection.map(|(after, window)| Protection {
                after,
                window: Duration::from_hours(window),
            }),
        },
    )
}

fn points() -> impl Strategy<Value = i32> {
    prop_oneof![
        8 => 0..3000,
        1 => -100..0,
        1 => i32::MAX - 200..=i32::MAX,
        1 => select(vec![0, 19, 20, 21, 99, 100, 101, i32::MIN, i32::MAX]),
    ]
}

fn hours_ago() -> impl Strategy<Value = OffsetDateTime> {
    (0..72_i64).prop_map(|hours| NOW - time::Duration::hours(hours))
}

fn player(id: i32) -> impl Strategy<Value = Player> {
    let robbed_at = vec(hours_ago(), 0..5).prop_map(|mut times| {
        times.sort_unstable();
        times
    });
    (points(), 0..4, option::of(hours_ago()), robbed_at).prop_map(
        move |(points, tokens, last_heist_at, robbed_at)| Player {
            id: user(id),
            name: format!("Player {id}"),
            points,
            tokens,
            last_heist_at,
            robbed_at,
        },
    )
}

/// All players except the last, which does not exist.
fn facts() -> impl Strategy<Value = HeistFacts> {
    let players: Vec<_> = (1..PLAYERS).map(player).collect();
    players.prop_map(|players| HeistFacts {
        now: NOW,
        players: players
            .into_iter()
            .map(|player| (player.id, player))
            .collect(),
        executed: HashMap::new(),
        fresh_ids: Vec::new(),
    })
}

fn orders() -> impl Strategy<Value = Vec<HeistOrder>> {
    let order = (1..=PLAYERS, 1..=PLAYERS, 1..=REQUEST_IDS);
    (vec(order, 1..25), rules()).prop_map(|(orders, rules)| {
        let rules = Arc::new(rules);
        (orders.into_iter())
            .map(|(attacker, victim, request_id)| HeistOrder {
                attacker: user(attacker),
                victim: user(victim),
                request_id: RequestId::new(Uuid::from_u128(request_id)),
                client_address: None,
                rules: Arc::clone(&rules),
            })
            .collect()
    })
}

fn ids(count: usize) -> Vec<HeistId> {
    (1..).take(count).flat_map(HeistId::new).collect()
}

fn decide_all(orders: &[HeistOrder], facts: &HeistFacts) -> Vec<HeistOutcome> {
    let facts = HeistFacts {
        fresh_ids: ids(orders.len()),
        ..facts.clone()
    };
    decide(orders, facts)
}

/// What a database would hold after these outcomes.
fn apply(facts: &mut HeistFacts, order: &HeistOrder, outcome: &HeistOutcome) {
    if let HeistOutcome::Executed { heist, .. } = outcome {
        let attacker = facts.players.get_mut(&order.attacker).unwrap();
        attacker.points = heist.attacker.points_after;
        attacker.tokens = heist.tokens_remaining;
        attacker.last_heist_at = Some(heist.created_at);
        let victim = facts.players.get_mut(&order.victim).unwrap();
        victim.points = heist.victim.points_after;
        victim.robbed_at.push(heist.created_at);
        facts.executed.insert(heist.request_id, heist.clone());
    }
}

fn executed(outcomes: &[HeistOutcome]) -> Vec<&Heist> {
    (outcomes.iter())
        .filter_map(|outcome| match outcome {
            HeistOutcome::Executed { heist, .. } => Some(heist),
            _ => None,
        })
        .collect()
}

fn total(facts: &HeistFacts) -> i64 {
    facts
        .players
        .values()
        .map(|player| i64::from(player.points))
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        // A failure prints its input; what it taught becomes a test with a name.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn points_are_neither_made_nor_lost_and_nobody_falls_below_zero(orders in orders(), mut facts in facts()) {
        let before = facts.clone();
        for (order, outcome) in orders.iter().zip(decide_all(&orders, &facts)) {
            apply(&mut facts, order, &outcome);
        }
        prop_assert_eq!(total(&facts), total(&before));
        for (id, player) in &facts.players {
            let at_first = &before.players[id];
            prop_assert!(player.points >= 0 || player.points == at_first.points);
            prop_assert!(player.tokens >= 0);
        }
    }

    #[test]
    fn a_heist_steals_what_the_rules_say_and_costs_one_token(orders in orders(), facts in facts()) {
        let rules = &orders[0].rules;
        for heist in executed(&decide_all(&orders, &facts)) {
            let before = i64::from(heist.victim.points_before);
            let stolen = i64::from(heist.points_stolen);
            prop_assert!(stolen >= 1);
            prop_assert!(before >= i64::from(rules.min_target_points));
            prop_assert!(stolen <= i64::from(rules.max_steal_points.unwrap_or(i32::MAX)));
            prop_assert!(stolen * 100 <= before * i64::from(rules.steal_percentage));
            let uncapped = rules.max_steal_points.is_none_or(|cap| heist.points_stolen < cap);
            if uncapped {
                prop_assert!((stolen + 1) * 100 > before * i64::from(rules.steal_percentage));
            }
            prop_assert_eq!(heist.victim.points_after, heist.victim.points_before - heist.points_stolen);
            prop_assert_eq!(heist.attacker.points_after, heist.attacker.points_before + heist.points_stolen);
            prop_assert!(heist.attacker.points_after >= 0);
        }
    }

    #[test]
    fn a_batch_decides_as_if_its_orders_came_one_by_one(orders in orders(), mut facts in facts()) {
        let together = decide_all(&orders, &facts);
        for (index, order) in orders.iter().enumerate() {
            let alone = decide(std::slice::from_ref(order), HeistFacts {
                fresh_ids: vec![ids(orders.len())[index]],
                ..facts.clone()
            }).remove(0);
            prop_assert_eq!(&alone, &together[index]);
            apply(&mut facts, order, &alone);
        }
    }

    #[test]
    fn a_refused_order_changes_nothing_for_those_after_it(orders in orders(), facts in facts()) {
        let outcomes = decide_all(&orders, &facts);
        let (kept, kept_outcomes): (Vec<_>, Vec<_>) = (orders.iter().zip(&outcomes))
            .filter(|(_, outcome)| matches!(outcome, HeistOutcome::Executed { .. }))
            .map(|(order, outcome)| (order.clone(), outcome.clone()))
            .unzip();
        let without = decide_all(&kept, &facts);
        for (with, without) in executed(&kept_outcomes).into_iter().zip(executed(&without)) {
            let renumbered = Heist { id: with.id, ..without.clone() };
            prop_assert_eq!(with, &renumbered);
        }
        prop_assert_eq!(executed(&without).len(), kept.len());
    }

    #[test]
    fn a_request_id_is_one_heist_and_its_replay_is_the_first(orders in orders(), facts in facts()) {
        let mut first: HashMap<RequestId, (&HeistOrder, Heist)> = HashMap::new();
        for (order, outcome) in orders.iter().zip(decide_all(&orders, &facts)) {
            match (first.get(&order.request_id), outcome) {
                (None, HeistOutcome::Executed { heist, .. }) => {
                    prop_assert_eq!(heist.request_id, order.request_id);
                    first.insert(order.request_id, (order, heist));
                }
                (None, HeistOutcome::Replayed(_) | HeistOutcome::RequestIdReused) => {
                    prop_assert!(false, "nothing was executed with this id");
                }
                (None, _) => {}
                (Some((earlier, heist)), outcome) => {
                    let same = (earlier.attacker, earlier.victim) == (order.attacker, order.victim);
                    let expected = if same {
                        HeistOutcome::Replayed(heist.clone())
                    } else {
                        HeistOutcome::RequestIdReused
                    };
                    prop_assert_eq!(outcome, expected);
                }
            }
        }
    }

    #[test]
    fn repeating_a_whole_batch_executes_only_what_was_refused_before(orders in orders(), mut facts in facts()) {
        let first = decide_all(&orders, &facts);
        for (order, outcome) in orders.iter().zip(&first) {
            apply(&mut facts, order, outcome);
        }
        for (earlier, again) in first.iter().zip(decide_all(&orders, &facts)) {
            if let HeistOutcome::Executed { heist, .. } = earlier {
                prop_assert_eq!(again, HeistOutcome::Replayed(heist.clone()));
            }
        }
    }

    #[test]
    fn ids_grow_in_the_order_of_arrival(orders in orders(), facts in facts()) {
        let outcomes = decide_all(&orders, &facts);
        prop_assert_eq!(outcomes.len(), orders.len());
        prop_assert!(executed(&outcomes).is_sorted_by_key(|heist| heist.id));
    }

    #[test]
    fn cooldown_and_protection_hold_within_a_batch(orders in orders(), facts in facts()) {
        let rules = &orders[0].rules;
        let outcomes = decide_all(&orders, &facts);
        let mut robberies: HashMap<UserId, usize> = HashMap::new();
        let mut attackers = HashSet::new();
        for heist in executed(&outcomes) {
            let fresh = attackers.insert(heist.attacker.id.unwrap());
            prop_assert!(fresh || rules.cooldown.is_zero());
            *robberies.entry(heist.victim.id.unwrap()).or_default() += 1;
        }
        if let Some(protection) = rules.protection {
            prop_assert!(robberies.values().all(|times| *times <= protection.after));
        }
    }

    #[test]
    fn the_first_rule_in_the_documented_order_is_the_answer(
        attacker in 1..=PLAYERS, victim in 1..=PLAYERS, rules in rules(), facts in facts()
    ) {
        let judgement = rules.judge(NOW, user(attacker), user(victim), &facts.players);
        let robber = facts.players.get(&user(attacker));
        let robbed = facts.players.get(&user(victim));
        // Written apart from the code, in the order of the contract.
        let in_cooldown = |player: &Player| {
            player.last_heist_at.is_some_and(|at| at + rules.cooldown > NOW)
        };
        let at_stake = |player: &Player| {
            let share = i64::from(player.points) * i64::from(rules.steal_percentage) / 100;
            share.min(i64::from(rules.max_steal_points.unwrap_or(i32::MAX)))
        };
        let recent = |player: &Player| rules.protection.is_some_and(|Protection { after, window }| {
            player.robbed_at.iter().filter(|at| **at + window > NOW).count() >= after
        });
        let expected = match (robber, robbed) {
            _ if attacker == victim => "self",
            (None, _) => "attacker",
            (_, None) => "victim",
            (Some(robber), _) if robber.tokens == 0 => "tokens",
            (Some(robber), _) if in_cooldown(robber) => "cooldown",
            (_, Some(robbed)) if robbed.points < rules.min_target_points || at_stake(robbed) < 1 => "points",
            (_, Some(robbed)) if recent(robbed) => "protected",
            (Some(robber), Some(robbed))
                if !(0..=i64::from(i32::MAX)).contains(&(i64::from(robber.points) + at_stake(robbed))) =>
            {
                "limit"
            }
            _ => "allowed",
        };
        let told = match judgement {
            Ok(points) => {
                prop_assert_eq!(i64::from(points), at_stake(robbed.unwrap()));
                "allowed"
            }
            Err(Refusal::SelfTarget) => "self",
            Err(Refusal::AttackerNotFound) => "attacker",
            Err(Refusal::TargetNotFound) => "victim",
            Err(Refusal::InsufficientTokens) => "tokens",
            Err(Refusal::CooldownActive { ends_at }) => {
                prop_assert!(ends_at > NOW);
                "cooldown"
            }
            Err(Refusal::InsufficientPoints { points, required }) => {
                prop_assert!(points < required);
                "points"
            }
            Err(Refusal::TargetProtected { ends_at }) => {
                prop_assert!(ends_at > NOW);
                "protected"
            }
            Err(Refusal::PointsLimitReached { points, points_at_stake }) => {
                prop_assert_eq!(points, robber.unwrap().points);
                prop_assert_eq!(i64::from(points_at_stake), at_stake(robbed.unwrap()));
                "limit"
            }
        };
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn what_is_at_stake_grows_with_the_victim_and_never_passes_what_they_have(
        rules in rules(), fewer in points(), more in points()
    ) {
        let (fewer, more) = (fewer.min(more), fewer.max(more));
        prop_assert!(rules.points_at_stake(fewer) <= rules.points_at_stake(more));
        prop_assert!((0..=more.max(0)).contains(&rules.points_at_stake(more)));
    }

    #[test]
    fn awards_earn_one_token_for_each_signup(
        orders in vec((1..=PLAYERS, 1..=PLAYERS), 1..30),
        referred_by in vec(option::of(1..=PLAYERS), PLAYERS as usize),
    ) {
        let orders: Vec<AwardOrder> = (orders.into_iter())
            .map(|(referrer, referred)| AwardOrder {
                referrer: user(referrer),
                referred: user(referred),
                referred_name: None,
            })
            .collect();
        // All players but the last exist.
        let facts = AwardFacts {
            now: NOW,
            accounts: (1..PLAYERS).map(|id| (user(id), TokenAccount::default())).collect(),
            referred: (1..PLAYERS)
                .zip(&referred_by)
                .map(|(id, by)| (user(id), by.map(user)))
                .collect(),
            awarded: HashMap::new(),
            fresh_ids: (1..).take(orders.len()).flat_map(AwardId::new).collect(),
        };
        let mut earned: HashMap<UserId, (UserId, AwardId)> = HashMap::new();
        let mut balances: HashMap<UserId, i32> = HashMap::new();
        for (order, outcome) in orders.iter().zip(award::decide(&orders, facts.clone())) {
            match outcome {
                AwardOutcome::Awarded { award, account } => {
                    let first = earned.insert(order.referred, (order.referrer, award.id));
                    prop_assert_eq!(first, None);
                    let balance = balances.entry(order.referrer).or_default();
                    *balance += 1;
                    prop_assert_eq!(award.balance_after, *balance);
                    prop_assert_eq!(account.balance, account.total_earned - account.total_spent);
                    prop_assert_ne!(order.referrer, order.referred);
                    let by = facts.referred[&order.referred];
                    prop_assert!(by.is_none_or(|by| by == order.referrer));
                }
                AwardOutcome::AlreadyAwarded { id, account } => {
                    prop_assert_eq!(earned.get(&order.referred), Some(&(order.referrer, id)));
                    prop_assert_eq!(account.balance, balances[&order.referrer]);
                }
                AwardOutcome::Refused(_) => {
                    let to = earned.get(&order.referred).map(|(referrer, _)| referrer);
                    prop_assert_ne!(to, Some(&order.referrer));
                }
                AwardOutcome::BalanceOutOfRange => prop_assert!(false, "no balance is that large"),
            }
        }
    }
}

fn adjustments() -> impl Strategy<Value = Vec<AdjustmentOrder>> {
    let delta = prop_oneof![
        8 => (-5..=5).prop_filter("not nothing", |delta| *delta != 0),
        1 => select(vec![i32::MIN, -i32::MAX, i32::MAX, i32::MAX - 3]),
    ];
    let reason = select(vec!["goodwill", "fraud"]);
    let order = (1..=PLAYERS, delta, reason, 1..=REQUEST_IDS * 2);
    vec(order, 1..40).prop_map(|orders| {
        (orders.into_iter())
            .map(|(user_id, delta, reason, request_id)| AdjustmentOrder {
                user_id: user(user_id),
                delta,
                reason: reason.to_owned(),
                actor: "support".to_owned(),
                request_id: RequestId::new(Uuid::from_u128(request_id)),
            })
            .collect()
    })
}

/// All players but the last, with a few tokens, or almost as many as there can be.
fn accounts() -> impl Strategy<Value = HashMap<UserId, TokenAccount>> {
    let account = prop_oneof![
        8 => (0..6, 0..6),
        1 => (0..=i32::MAX / 2, 0..=i32::MAX / 2),
        1 => (i32::MAX - 4..=i32::MAX, Just(0)),
        1 => (Just(0), i32::MAX - 4..=i32::MAX),
    ];
    vec(account, usize::try_from(PLAYERS - 1).unwrap()).prop_map(|accounts| {
        (1..)
            .map(user)
            .zip(
                accounts
                    .into_iter()
                    .map(|(balance, total_spent)| TokenAccount {
                        balance,
                        total_earned: balance + total_spent,
                        total_spent,
                        ..TokenAccount::default()
                    }),
            )
            .collect()
    })
}

fn adjust_all(
    orders: &[AdjustmentOrder],
    accounts: &HashMap<UserId, TokenAccount>,
    made: &HashMap<RequestId, adjustment::Adjustment>,
    first_id: i64,
) -> Vec<AdjustmentOutcome> {
    let facts = AdjustmentFacts {
        now: NOW,
        accounts: accounts.clone(),
        made: made.clone(),
        fresh_ids: (first_id..)
            .take(orders.len())
            .flat_map(AdjustmentId::new)
            .collect(),
    };
    adjustment::decide(orders, facts)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_batch_of_adjustments_decides_as_if_they_came_one_by_one(
        orders in adjustments(), mut accounts in accounts()
    ) {
        let mut made = HashMap::new();
        let together = adjust_all(&orders, &accounts, &made, 1);
        prop_assert_eq!(together.len(), orders.len());
        for (id, (order, expected)) in (1..).zip(orders.iter().zip(&together)) {
            let order = std::slice::from_ref(order);
            let alone = adjust_all(order, &accounts, &made, id).remove(0);
            prop_assert_eq!(&alone, expected);
            if let AdjustmentOutcome::Adjusted { adjustment, account } = alone {
                accounts.insert(adjustment.user_id, account);
                made.insert(adjustment.request_id, adjustment);
            }
        }
    }

    #[test]
    fn no_adjustment_takes_a_balance_below_zero_and_totals_add_up(
        orders in adjustments(), mut accounts in accounts()
    ) {
        for (order, outcome) in orders.iter().zip(adjust_all(&orders, &accounts, &HashMap::new(), 1)) {
            let before = accounts.get(&order.user_id).cloned();
            match outcome {
                AdjustmentOutcome::Adjusted { adjustment, account } => {
                    let before = before.unwrap();
                    prop_assert_eq!(adjustment.delta, order.delta);
                    prop_assert_eq!(account.balance, before.balance + order.delta);
                    prop_assert_eq!(adjustment.balance_after, account.balance);
                    prop_assert!(account.balance >= 0);
                    prop_assert_eq!(account.total_earned, before.total_earned + order.delta.max(0));
                    prop_assert_eq!(account.total_spent, before.total_spent - order.delta.min(0));
                    prop_assert_eq!(account.balance, account.total_earned - account.total_spent);
                    accounts.insert(order.user_id, account);
                }
                AdjustmentOutcome::InsufficientTokens { balance } => {
                    prop_assert_eq!(balance, before.unwrap().balance);
                    prop_assert!(i64::from(balance) + i64::from(order.delta) < 0);
                }
                AdjustmentOutcome::BalanceOutOfRange => {
                    let before = before.unwrap();
                    let left = i64::from(before.balance) + i64::from(order.delta);
                    prop_assert!(left >= 0);
                    let total = if order.delta > 0 { before.total_earned } else { before.total_spent };
                    let total = i64::from(total) + i64::from(order.delta).abs();
                    prop_assert!(total > i64::from(i32::MAX));
                }
                AdjustmentOutcome::UserNotFound => prop_assert_eq!(before, None),
                AdjustmentOutcome::Replayed { account, .. } => prop_assert_eq!(Some(account), before),
                AdjustmentOutcome::RequestIdReused => {}
            }
        }
    }

    #[test]
    fn a_repeated_adjustment_is_a_replay_and_another_one_with_its_id_is_not(
        orders in adjustments(), accounts in accounts()
    ) {
        let mut first: HashMap<RequestId, (&AdjustmentOrder, AdjustmentId)> = HashMap::new();
        for (order, outcome) in orders.iter().zip(adjust_all(&orders, &accounts, &HashMap::new(), 1)) {
            let asks_the_same = first.get(&order.request_id).map(|(earlier, _)| {
                (earlier.user_id, earlier.delta, &earlier.reason)
                    == (order.user_id, order.delta, &order.reason)
            });
            match outcome {
                AdjustmentOutcome::Adjusted { adjustment, .. } => {
                    prop_assert_eq!(asks_the_same, None);
                    first.insert(order.request_id, (order, adjustment.id));
                }
                AdjustmentOutcome::Replayed { id, .. } => {
                    prop_assert_eq!(asks_the_same, Some(true));
                    prop_assert_eq!(id, first[&order.request_id].1);
                }
                AdjustmentOutcome::RequestIdReused => prop_assert_eq!(asks_the_same, Some(false)),
                AdjustmentOutcome::UserNotFound => {
                    prop_assert!(!accounts.contains_key(&order.user_id));
                }
                _ => prop_assert_eq!(asks_the_same, None),
            }
        }
    }

    #[test]
    fn what_is_assessed_is_what_is_decided(
        attacker in 1..=PLAYERS, victim in 1..=PLAYERS, rules in rules(), facts in facts()
    ) {
        let (attacker, victim) = (user(attacker), user(victim));
        let snapshot = Snapshot { now: NOW, players: facts.players.clone() };
        let assessed = snapshot.assess(&rules, attacker, victim);
        let order = HeistOrder {
            attacker,
            victim,
            request_id: RequestId::new(Uuid::from_u128(1)),
            client_address: None,
            rules: Arc::new(rules.clone()),
        };
        match decide_all(&[order], &facts).remove(0) {
            HeistOutcome::Executed { heist, .. } => {
                prop_assert_eq!(assessed.verdict, Ok(heist.points_stolen));
                prop_assert_eq!(assessed.victim_points, heist.victim.points_before);
                prop_assert_eq!(assessed.tokens_available, heist.tokens_remaining + 1);
                prop_assert_eq!(assessed.victim_name, heist.victim.name);
                prop_assert_eq!(assessed.cooldown_ends_at, None);
                prop_assert_eq!(assessed.protection_ends_at, None);
            }
            HeistOutcome::Refused { refusal, at } => {
                prop_assert_eq!(at, NOW);
                if let Refusal::CooldownActive { ends_at } = refusal {
                    prop_assert_eq!(assessed.cooldown_ends_at, Some(ends_at));
                }
                if let Refusal::TargetProtected { ends_at } = refusal {
                    prop_assert_eq!(assessed.protection_ends_at, Some(ends_at));
                }
                if let Refusal::PointsLimitReached { points, points_at_stake } = refusal {
                    prop_assert_eq!(points, facts.players[&attacker].points);
                    let after = i64::from(points) + i64::from(points_at_stake);
                    prop_assert!(!(0..=i64::from(i32::MAX)).contains(&after));
                }
                prop_assert_eq!(assessed.verdict, Err(refusal));
            }
            other => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(assessed.victim_id, victim);
    }

    #[test]
    fn ranks_are_counted_alike_in_one_page_and_in_many(
        points in vec(-3..6_i32, 0..60), page_size in 1..12_usize
    ) {
        let mut points = points;
        points.sort_unstable_by(|a, b| b.cmp(a));
        let standings: Vec<Standing> = (points.iter().zip(0..))
            .map(|(points, place)| Standing {
                user_id: user(1000 - place),
                name: String::new(),
                monthly_points: *points,
                token_balance: 0,
            })
            .collect();
        let whole: Vec<Place> = rank(standings.clone(), None).into_iter().map(|(place, _)| place).collect();
        for (place, standing) in whole.iter().zip(&standings) {
            let above = points.iter().filter(|other| **other > standing.monthly_points).count();
            prop_assert_eq!(usize::try_from(place.rank).unwrap(), above + 1);
            prop_assert_eq!(&place.standing, standing);
        }
        let mut end: Option<PageEnd> = None;
        let mut in_pages = Vec::new();
        for page in standings.chunks(page_size) {
            for (place, page_end) in rank(page.to_vec(), end) {
                in_pages.push(place);
                end = Some(page_end);
            }
        }
        prop_assert_eq!(in_pages, whole);
    }

    #[test]
    fn a_distribution_knows_how_many_have_more(
        players in vec(points(), 0..60), asked in points(), at_least in 0..20_i64
    ) {
        let mut by_points: BTreeMap<i32, i64> = BTreeMap::new();
        for points in &players {
            *by_points.entry(*points).or_default() += 1;
        }
        let distribution = Distribution::new(by_points.into_iter().rev());
        for asked in players.iter().copied().chain([asked, i32::MIN, i32::MAX]) {
            let more = players.iter().filter(|points| **points > asked).count();
            let more = i64::try_from(more).unwrap();
            prop_assert_eq!(distribution.players_above(asked, 0), more);
            prop_assert_eq!(distribution.players_above(asked, at_least), more.max(at_least));
        }
    }
}

fn robbed(at: impl IntoIterator<Item = OffsetDateTime>) -> Player {
    Player {
        id: user(1),
        name: String::new(),
        points: 1000,
        tokens: 1,
        last_heist_at: None,
        robbed_at: at.into_iter().collect(),
    }
}

#[test]
fn a_cooldown_ends_at_its_last_instant() {
    let rules = Rules::default();
    for (age, over) in [
        (time::Duration::DAY - time::Duration::NANOSECOND, false),
        (time::Duration::DAY, true),
        (time::Duration::ZERO, false),
        (-time::Duration::HOUR, false),
    ] {
        let player = Player {
            last_heist_at: Some(NOW - age),
            ..robbed([])
        };
        assert_eq!(rules.cooldown_end(&player, NOW).is_none(), over, "{age}");
    }
}

#[test]
fn a_protection_ends_at_its_last_instant() {
    let rules = Rules::default();
    let window = 2 * time::Duration::DAY;
    for (age, over) in [(window - time::Duration::NANOSECOND, false), (window, true)] {
        let mut times = vec![NOW - age];
        times.extend([NOW; 9]);
        let player = robbed(times);
        assert_eq!(rules.protection_end(&player, NOW).is_none(), over, "{age}");
    }
    assert_eq!(rules.protection_end(&robbed([NOW; 9]), NOW), None);
    // The eleventh newest does not count.
    let mut times = vec![NOW - time::Duration::HOUR; 1];
    times.extend([NOW; 10]);
    assert_eq!(
        rules.protection_end(&robbed(times), NOW),
        Some(NOW + window)
    );
}
