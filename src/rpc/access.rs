//! Who may call what: the one table of it, with a line for each RPC.
//!
//! A service needs the scope of the RPC, and may then act for any player. A player needs none, and
//! makes only calls that the last column allows them. The door checks the scope and whether
//! players may call at all, before anything is decoded; [`check`] whom a call is about, first of
//! all in each RPC. An RPC that is not in the table is not served, and the server does not start.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Request, Status};

use super::status;
use crate::{
    auth::{Caller, Scope, Who},
    domain::{heist::Heist, ids::UserId},
    pb,
};

/// A line of the table.
pub(super) struct Rpc {
    /// Such as `/heist.v1.HeistService/ExecuteHeist`.
    pub(super) path: &'static str,
    /// What a service needs.
    pub(super) scope: Scope,
    /// Whether players may call it.
    pub(super) players: bool,
}

/// A request whose RPC is in the table.
pub(super) trait Access {
    /// Whether it is about nobody but this player.
    fn is_own(&self, player: UserId) -> bool;
}

macro_rules! table {
    ($($service:literal { $($rpc:literal $request:ident $scope:ident: $who:tt $(($own:expr))?;)+ })+) => {
        pub(super) const RPCS: &[Rpc] = &[$($(
            Rpc {
                path: concat!("/heist.v1.", $service, "/", $rpc),
                scope: Scope::$scope,
                players: table!(@players $who),
            },
        )+)+];
        $($(
            impl Access for pb::$request {
                fn is_own(&self, player: UserId) -> bool {
                    table!(@own self player $who $(($own))?)
                }
            }
        )+)+
    };
    (@players services) => { false };
    (@players players) => { true };
    (@own $request:ident $player:ident services) => {{
        let _ = $player;
        false
    }};
    (@own $request:ident $player:ident players ($own:expr)) => {{
        let own: fn(&Self, i32) -> bool = $own;
        own($request, $player.get())
    }};
}

table! {
    "HeistService" {
        "ExecuteHeist" ExecuteHeistRequest HeistExecute: players (|asked, own| asked.attacker_id == own);
        "CheckEligibility" CheckEligibilityRequest HeistRead: players (|asked, own| asked.attacker_id == own);
        "BatchCheckEligibility" BatchCheckEligibilityRequest HeistRead: players (|asked, own| asked.attacker_id == own);
        // Of the heist that is found, `may_see` says whether it is theirs.
        "GetHeist" GetHeistRequest HeistRead: players (|_, _| true);
        "ListHeists" ListHeistsRequest HeistRead: players (|asked, own| asked.user_id == own);
        "GetHeistStats" GetHeistStatsRequest HeistRead: players (|asked, own| asked.user_id == own);
        // The board is for everybody, what a viewer can do on it for the viewer.
        "GetLeaderboard" GetLeaderboardRequest HeistRead: players (|asked, own| [0, own].contains(&asked.viewer_id));
        // It tells who robbed whom.
        "WatchPoints" WatchPointsRequest HeistRead: services;
    }
    "TokenService" {
        "AwardToken" AwardTokenRequest TokenAward: services;
        "GetBalance" GetBalanceRequest TokenRead: players (|asked, own| asked.user_id == own);
        "BatchGetBalances" BatchGetBalancesRequest TokenRead: players (|asked, own| asked.user_ids.iter().all(|id| *id == own));
        "ListTokenEvents" ListTokenEventsRequest TokenRead: players (|asked, own| asked.user_id == own);
        "AdjustBalance" AdjustBalanceRequest TokenAdjust: services;
    }
    "NotificationService" {
        "ListNotifications" ListNotificationsRequest NotificationRead: players (|asked, own| asked.user_id == own);
        "GetUnreadCount" GetUnreadCountRequest NotificationRead: players (|asked, own| asked.user_id == own);
        "MarkNotificationsRead" MarkNotificationsReadRequest NotificationWrite: players (|asked, own| asked.user_id == own);
        "StreamNotifications" StreamNotificationsRequest NotificationRead: players (|asked, own| asked.user_id == own);
    }
}

impl Rpc {
    /// The line of the RPC that is called by this path.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        RPCS.iter().find(|rpc| rpc.path == path)
    }

    /// Whether such a caller may call it at all.
    pub(super) fn admits(&self, caller: &Caller) -> Result<(), Status> {
        match &caller.who {
            Who::Anybody => Ok(()),
            Who::Service { scopes, .. } if scopes.has(self.scope) => Ok(()),
            Who::Service { .. } => Err(status::scope_needed(self.scope)),
            Who::Player(_) if self.players => Ok(()),
            Who::Player(_) => Err(status::not_for_players()),
        }
    }
}

/// Refuses a call that is about somebody whom the caller may not act for.
pub(super) fn check<T: Access>(request: &Request<T>) -> Result<(), Status> {
    match caller(request).who {
        Who::Player(player) if !request.get_ref().is_own(player) => Err(status::only_for_oneself()),
        _ => Ok(()),
    }
}

/// Whether a caller may see a heist: players see those they were in.
pub(super) fn may_see<T>(request: &Request<T>, heist: &Heist) -> bool {
    match caller(request).who {
        Who::Player(player) => [heist.attacker.id, heist.victim.id].contains(&Some(player)),
        _ => true,
    }
}

/// Who makes a call.
pub(super) fn caller<T>(request: &Request<T>) -> &Caller {
    (request.extensions().get()).expect("the door lets nobody in without saying who it is")
}

/// Compares the table with the contract.
///
/// # Panics
///
/// Where an RPC has no line, or a line no RPC.
pub(super) fn verify_table() {
    let descriptors =
        FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).expect("our own descriptors are valid");
    let services = (descriptors.file.iter())
        .filter(|file| file.package() == "heist.v1")
        .flat_map(|file| &file.service);
    let mut missing: Vec<&str> = RPCS.iter().map(|rpc| rpc.path).collect();
    for service in services {
        for method in &service.method {
            let path = format!("/heist.v1.{}/{}", service.name(), method.name());
            assert!(
                Rpc::at(&path).is_some(),
                "rpc/access.rs does not say who may call {path}"
            );
            missing.retain(|line| *line != path);
        }
    }
    assert!(
        missing.is_empty(),
        "rpc/access.rs names what there is not: {missing:?}"
    );
}
