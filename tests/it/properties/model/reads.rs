//! The calls that change nothing, and what each tells about players.

use std::collections::HashMap;

use heist::pb::{self, RefusalReason, notification::Details};
use tonic::{Code, Status};

use super::{
    caller::{account, robbed},
    history::{Fact, Note, NoteKind, Read},
};
use crate::harness::World;

/// Makes the call. `notes` learns which notifications were listed, newest first, by player.
pub async fn facts(
    world: &World,
    read: &Read,
    notes: &mut HashMap<i32, Vec<i64>>,
) -> Result<Vec<Fact>, Status> {
    Ok(match *read {
        Read::Balance(user) => {
            let balance = world.get_balance(user).await?;
            vec![Fact::Account(user, account(Some(balance)))]
        }
        Read::Balances(ref users) => {
            let user_ids = users.clone();
            let request = pb::BatchGetBalancesRequest { user_ids };
            match world.batch_get_balances(request).await {
                Ok(answer) => (answer.balances.into_iter())
                    .map(|balance| Fact::Account(balance.user_id, account(Some(balance))))
                    .collect(),
                // A player was named twice.
                Err(status) if status.code() == Code::InvalidArgument => Vec::new(),
                Err(status) => return Err(status),
            }
        }
        Read::Statement(user) => {
            let request = pb::ListTokenEventsRequest {
                user_id: user,
                page_size: 100,
                page_token: String::new(),
            };
            let answer = world.list_token_events(request).await?;
            assert!(answer.next_page_token.is_empty(), "programs are short");
            let lines = (answer.events.iter()).map(|event| (event.delta, event.balance_after));
            vec![Fact::Statement(user, lines.collect())]
        }
        Read::Heist(heist_id) => {
            let answer = world.get_heist(pb::GetHeistRequest { heist_id }).await?;
            vec![Fact::Heist(robbed(&answer.heist.expect("a heist")))]
        }
        Read::Heists(user) => {
            let request = pb::ListHeistsRequest {
                user_id: user,
                page_size: 100,
                ..Default::default()
            };
            let answer = world.list_heists(request).await?;
            assert!(answer.next_page_token.is_empty(), "programs are short");
            let ids = answer.heists.iter().map(|heist| heist.id).collect();
            vec![Fact::Heists(user, ids)]
        }
        Read::Stats(user) => {
            let stats = (world.get_heist_stats(pb::GetHeistStatsRequest { user_id: user })).await?;
            let stats = [
                stats.heists_as_attacker,
                stats.heists_as_victim,
                stats.points_stolen,
                stats.points_lost,
            ];
            vec![Fact::Stats(user, stats)]
        }
        Read::Eligibility {
            attacker,
            ref victims,
        } => eligibilities(world, attacker, victims).await?,
        Read::Leaderboard => {
            let request = pb::GetLeaderboardRequest {
                page_size: 200,
                ..Default::default()
            };
            let answer = world.get_leaderboard(request).await?;
            (answer.entries.iter())
                .map(|entry| Fact::Standing {
                    user: entry.user_id,
                    points: entry.monthly_points,
                    tokens: entry.token_balance,
                })
                .collect()
        }
        Read::Notifications(user) => {
            let request = pb::ListNotificationsRequest {
                user_id: user,
                page_size: 100,
                ..Default::default()
            };
            let answer = world.list_notifications(request).await?;
            assert!(answer.next_page_token.is_empty(), "programs are short");
            let listed: Vec<Note> = answer.notifications.into_iter().map(note).collect();
            let ids = listed.iter().map(|note| note.id).collect();
            notes.insert(user, ids);
            vec![
                Fact::Notifications(user, listed),
                Fact::Unread(user, answer.unread_count),
            ]
        }
        Read::UnreadCount(user) => {
            vec![Fact::Unread(user, world.get_unread_count(user).await?)]
        }
    })
}

/// Of one victim by the call for one, where the program names one twice.
async fn eligibilities(world: &World, attacker: i32, victims: &[i32]) -> Result<Vec<Fact>, Status> {
    if let [first, second] = *victims
        && first == second
    {
        let request = pb::CheckEligibilityRequest {
            attacker_id: attacker,
            victim_id: first,
        };
        let answer = world.check_eligibility(request).await?;
        let one = answer.eligibility.expect("an answer has an eligibility");
        return Ok(eligibility(attacker, &one));
    }
    let request = pb::BatchCheckEligibilityRequest {
        attacker_id: attacker,
        victim_ids: victims.to_vec(),
    };
    let answer = world.batch_check_eligibility(request).await?;
    Ok((answer.eligibilities.iter())
        .flat_map(|each| eligibility(attacker, each))
        .collect())
}

/// What an eligibility tells about either player, as far as it tells it.
fn eligibility(attacker: i32, answer: &pb::Eligibility) -> Vec<Fact> {
    let victim = answer.victim_id;
    let reason = answer.reason();
    assert_eq!(answer.eligible, reason == RefusalReason::Unspecified);
    match reason {
        RefusalReason::SelfTarget => return Vec::new(),
        RefusalReason::AttackerNotFound => return vec![Fact::Absent(attacker)],
        RefusalReason::TargetNotFound => {
            return vec![
                Fact::Tokens(attacker, answer.tokens_available),
                Fact::Absent(victim),
            ];
        }
        _ => {}
    }
    let has_no_token = reason == RefusalReason::InsufficientTokens;
    assert_eq!(has_no_token, answer.tokens_available == 0, "{answer:?}");
    vec![
        Fact::Tokens(attacker, answer.tokens_available),
        Fact::Cooling(attacker, answer.cooldown_end_time.is_some()),
        Fact::Points(victim, answer.victim_points),
        Fact::Protected(victim, answer.protection_end_time.is_some()),
    ]
}

fn note(note: pb::Notification) -> Note {
    let (kind, points, after) = match note.details.expect("a notification has details") {
        Details::HeistSuccess(it) => (
            NoteKind::Success {
                heist: it.heist_id,
                victim: it.victim_id,
            },
            it.points_stolen,
            it.points_after,
        ),
        Details::HeistVictim(it) => (
            NoteKind::Robbed {
                heist: it.heist_id,
                attacker: it.attacker_id,
            },
            it.points_lost,
            it.points_after,
        ),
        Details::TokenEarned(it) => (
            NoteKind::Earned {
                referred: it.referred_id,
            },
            0,
            it.balance_after,
        ),
    };
    Note {
        id: note.id,
        kind,
        points,
        after,
        read: note.read,
    }
}
