//! The callers that each RPC admits. A new RPC fails here until the table has it.

use std::collections::BTreeSet;

use heist::{auth::Scope, pb};
use prost::Message;
use tonic::{
    Code::{NotFound, PermissionDenied, Unauthenticated},
    Status,
};

use crate::harness::{
    Refusal, World,
    identity::{Issuer, bearer, call_as},
    new_request_id,
    wire::{Method, methods_of_the_contract},
};

/// The ids of Ada, the attacker, and of Ben, the victim.
const ADA: i32 = 1;
const BEN: i32 = 2;

/// A row of the table in docs/security.md.
struct Row {
    rpc: &'static str,
    scope: &'static str,
    /// A valid call about Ada.
    call: Vec<u8>,
    players: Players,
}

enum Players {
    /// No player.
    Refused,
    /// Only the player that the call names.
    Themselves,
    /// Every player, for a call that names none.
    AnyCaller,
    /// The two players of the heist; for others it does not exist.
    Involved,
}

#[expect(clippy::too_many_lines, reason = "one line for each method")]
fn table(heist_id: i64) -> Vec<Row> {
    use Players::{AnyCaller, Involved, Refused, Themselves};
    let row = |rpc, scope, call: Vec<u8>, players| Row {
        rpc,
        scope,
        call,
        players,
    };
    let about = |user_id: i32| pb::GetBalanceRequest { user_id }.encode_to_vec();
    let pair = |attacker_id, victim_id| {
        pb::CheckEligibilityRequest {
            attacker_id,
            victim_id,
        }
        .encode_to_vec()
    };
    vec![
        row("ExecuteHeist", "heist.execute", pair(ADA, BEN), Themselves),
        row("CheckEligibility", "heist.read", pair(ADA, BEN), Themselves),
        row(
            "BatchCheckEligibility",
            "heist.read",
            pb::BatchCheckEligibilityRequest {
                attacker_id: ADA,
                victim_ids: vec![BEN],
            }
            .encode_to_vec(),
            Themselves,
        ),
        row(
            "GetHeist",
            "heist.read",
            pb::GetHeistRequest { heist_id }.encode_to_vec(),
            Involved,
        ),
        row("ListHeists", "heist.read", about(ADA), Themselves),
        row("GetHeistStats", "heist.read", about(ADA), Themselves),
        row("GetRules", "heist.read", vec![], AnyCaller),
        row("GetLeaderboard", "heist.read", vec![], AnyCaller),
        row("GetLeaderboard", "heist.read", about(ADA), Themselves),
        row("WatchPoints", "heist.read", vec![], Refused),
        row("AwardToken", "token.award", pair(ADA, BEN), Refused),
        row("GetBalance", "token.read", about(ADA), Themselves),
        row(
            "BatchGetBalances",
            "token.read",
            pb::BatchGetBalancesRequest {
                user_ids: vec![ADA, ADA],
            }
            .encode_to_vec(),
            Themselves,
        ),
        row("ListTokenEvents", "token.read", about(ADA), Themselves),
        row(
            "AdjustBalance",
            "token.adjust",
            present().encode_to_vec(),
            Refused,
        ),
        row(
            "ListNotifications",
            "notification.read",
            about(ADA),
            Themselves,
        ),
        row(
            "GetUnreadCount",
            "notification.read",
            about(ADA),
            Themselves,
        ),
        row(
            "MarkNotificationsRead",
            "notification.write",
            pb::MarkNotificationsReadRequest {
                user_id: ADA,
                notification_ids: vec![],
                up_to_id: 1,
            }
            .encode_to_vec(),
            Themselves,
        ),
        row(
            "GetPreferences",
            "notification.read",
            about(ADA),
            Themselves,
        ),
        row(
            "UpdatePreferences",
            "notification.write",
            pb::UpdatePreferencesRequest {
                user_id: ADA,
                email: pb::EmailPreference::Never.into(),
            }
            .encode_to_vec(),
            Themselves,
        ),
        row(
            "StreamNotifications",
            "notification.read",
            about(ADA),
            Themselves,
        ),
    ]
}

fn present() -> pb::AdjustBalanceRequest {
    pb::AdjustBalanceRequest {
        user_id: ADA,
        delta: 1,
        reason: "a present".to_owned(),
        request_id: new_request_id(),
    }
}

/// Streams say nothing as long as nothing happens: it is enough that they open.
const SILENT: [&str; 1] = ["StreamNotifications"];

struct Stage<'a> {
    world: &'a World,
    channel: tonic::transport::Channel,
}

impl Stage<'_> {
    async fn call(&self, token: Option<&str>, row: &Row) -> Result<(), Status> {
        let method = method(row);
        if SILENT.contains(&row.rpc) {
            let user_id = pb::GetBalanceRequest::decode(&row.call[..])
                .unwrap()
                .user_id;
            let request = pb::StreamNotificationsRequest {
                user_id,
                after_id: 0,
            };
            let request = match token {
                Some(token) => bearer(request, token),
                None => tonic::Request::new(request),
            };
            let mut client = pb::notification_service_client::NotificationServiceClient::new(
                self.channel.clone(),
            );
            return client.stream_notifications(request).await.map(drop);
        }
        (call_as(&self.channel, token, &method, row.call.clone()).await).map(drop)
    }

    async fn refuses(&self, token: Option<&str>, row: &Row) -> Refusal {
        self.world.refuses(self.call(token, row)).await
    }
}

fn method(row: &Row) -> Method {
    (methods_of_the_contract().into_iter())
        .find(|method| method.name() == row.rpc)
        .unwrap_or_else(|| panic!("there is no {}", row.rpc))
}

#[test]
fn every_rpc_admits_exactly_the_callers_of_the_table() {
    World::run(async |world| {
        let ada = world.player("Ada").points(100).tokens(5).await;
        let ben = world.player("Ben").points(1000).await;
        let cleo = world.player("Cleo").tokens(5).await;
        assert_eq!((ada.id, ben.id), (ADA, BEN));
        let heist_id = first_heist(&ada, &ben).await;
        let rows = table(heist_id);
        let listed: BTreeSet<String> = rows.iter().map(|row| method(row).path).collect();
        let all = methods_of_the_contract().into_iter();
        let all: BTreeSet<String> = all.map(|method| method.path).collect();
        assert_eq!(listed, all, "every RPC has to be in the table");

        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        let stage = Stage { world, channel };
        for row in &rows {
            let what = row.rpc;
            let refusal = stage.refuses(None, row).await;
            refusal.is(Unauthenticated, "UNAUTHENTICATED");

            let others = Scope::ALL.map(Scope::name).into_iter();
            let others: Vec<&str> = others.filter(|name| *name != row.scope).collect();
            for scope in [others.join(" "), String::new(), row.scope.to_uppercase()] {
                let service = issuer.service(&scope);
                let refusal = stage.refuses(Some(&service), row).await;
                let refusal = refusal.is(PermissionDenied, "PERMISSION_DENIED");
                assert_eq!(refusal.fact("scope"), row.scope, "{what}");
            }

            let (ada, ben, cleo) = (ada.id, ben.id, cleo.id);
            for (player, may) in match row.players {
                Players::Refused => [(ada, false), (ben, false), (cleo, false)],
                Players::Themselves => [(ada, true), (ben, false), (cleo, false)],
                Players::AnyCaller => [(ada, true), (ben, true), (cleo, true)],
                Players::Involved => [(ada, true), (ben, true), (cleo, false)],
            } {
                let token = issuer.player(player);
                if may {
                    let outcome = stage.call(Some(&token), row).await;
                    assert!(was_let_in(&outcome), "{what} as {player}: {outcome:?}");
                    continue;
                }
                let refusal = stage.refuses(Some(&token), row).await;
                if matches!(row.players, Players::Involved) {
                    refusal.is(NotFound, "HEIST_NOT_FOUND");
                } else {
                    refusal.is(PermissionDenied, "PERMISSION_DENIED");
                }
            }

            let service = issuer.service(row.scope);
            let outcome = stage.call(Some(&service), row).await;
            assert!(was_let_in(&outcome), "{what}: {outcome:?}");
        }
        server.stop(crate::harness::PATIENCE).await;
    });
}

/// The id of a heist between the two.
async fn first_heist(ada: &crate::harness::Player, ben: &crate::harness::Player) -> i64 {
    let answer = ada.robs(ben).await.unwrap();
    answer.heist.unwrap().id
}

/// Whether authentication and authorization admitted the call.
fn was_let_in(outcome: &Result<(), Status>) -> bool {
    let code = outcome.as_ref().err().map(Status::code);
    !matches!(code, Some(Unauthenticated | PermissionDenied))
}

#[test]
fn a_batch_with_one_foreign_player_in_it_is_refused_whole() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").tokens(1).await;
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        let method = Method::named("/heist.v1.TokenService/BatchGetBalances");
        let token = issuer.player(ada.id);
        for user_ids in [vec![ada.id, ben.id], vec![ben.id, ada.id], vec![ada.id, 0]] {
            let message = pb::BatchGetBalancesRequest { user_ids }.encode_to_vec();
            let call = call_as(&channel, Some(&token), &method, message);
            let refusal = world.refuses(call).await;
            refusal.is(PermissionDenied, "PERMISSION_DENIED");
        }
        server.stop(crate::harness::PATIENCE).await;
    });
}

#[test]
fn a_page_token_of_another_player_is_refused() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let ben = world.player("Ben").await;
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        let list = async |token: &str, user_id: i32, page_token: &str| {
            let method = Method::named("/heist.v1.HeistService/GetLeaderboard");
            let message = pb::GetLeaderboardRequest {
                viewer_id: user_id,
                page_size: 1,
                page_token: page_token.to_owned(),
            };
            let answer = call_as(&channel, Some(token), &method, message.encode_to_vec()).await?;
            Ok::<_, Status>(pb::GetLeaderboardResponse::decode(&answer[..]).unwrap())
        };
        let (adas, bens) = (issuer.player(ada.id), issuer.player(ben.id));
        let page_token = list(&adas, ada.id, "").await.unwrap().next_page_token;
        assert_ne!(page_token, "");
        list(&adas, ada.id, &page_token).await.unwrap();

        let refusal = world.refuses(list(&bens, ada.id, &page_token)).await;
        refusal.is(PermissionDenied, "PERMISSION_DENIED");
        let refusal = world.refuses(list(&bens, ben.id, &page_token)).await;
        refusal.names_the_page_token();
        server.stop(crate::harness::PATIENCE).await;
    });
}

#[test]
fn an_adjustment_records_the_service_that_made_it() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        assert_eq!(ada.id, ADA);
        let mut client = pb::token_service_client::TokenServiceClient::new(channel);
        let token = issuer.service("token.adjust");
        client
            .adjust_balance(bearer(present(), &token))
            .await
            .unwrap();
        let request = pb::ListTokenEventsRequest {
            user_id: ada.id,
            ..pb::ListTokenEventsRequest::default()
        };
        let events = world.list_token_events(request).await.unwrap().events;
        let Some(pb::token_event::Source::Adjustment(adjustment)) = &events[0].source else {
            panic!("{events:?}");
        };
        assert_eq!(adjustment.actor, "service support");
        server.stop(crate::harness::PATIENCE).await;
    });
}
