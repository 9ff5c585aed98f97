//! The policy of every method on the port, in one table: its path, the scope that it requires, the
//! requests that a player may send, the rate limit that a call counts against, and whether calls
//! are audited.
//!
//! [`verify`] compares the table with the contract when the server starts. A method without a line
//! in the table is not served.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::{
    auth::{Scope, Who},
    domain::ids::UserId,
    pb,
};

/// A line of the table.
pub(super) struct Method {
    /// For example `/heist.v1.HeistService/ExecuteHeist`.
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// The kind of attempt that the audit records; `None`: the method is not audited.
    pub(super) audited: Option<Audited>,
    /// Whether the answer is a stream.
    pub(super) streams: bool,
    /// The messages that a request may have.
    pub(super) messages: Messages,
}

/// Limits of the messages of a request.
#[derive(Clone, Copy)]
pub(super) struct Messages {
    /// The size of a message in bytes.
    pub(super) max_bytes: usize,
    /// Whether there may be more than one.
    pub(super) many: bool,
}

/// The largest request of the contract, in bytes. It is ten times the longest list that the contract
/// allows.
pub(super) const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// The largest request of a health check: the name of a service.
const MAX_HEALTH_BYTES: usize = 1024;
/// The largest request of reflection: the name of a file or symbol.
const MAX_REFLECTION_BYTES: usize = 4 * 1024;

/// Which callers may call a method.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// Every caller, without authentication: health and reflection.
    Open,
    /// Services with this scope, for any player. Players call it for themselves.
    PlayersAndServices(Scope),
    /// Services with this scope, for any player.
    Services(Scope),
}

/// What the audit records.
#[derive(Clone, Copy)]
pub(super) enum Audited {
    Heist,
    Award,
    Adjustment,
}

/// The rate limit that a call counts against, with the id of the player as the request names it.
/// An id that is not positive names no player.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// A heist of this attacker.
    Heist(i32),
    /// Another call for this player.
    Other(i32),
    /// A call that names no player, or many.
    Unlimited,
}

/// A request of a method in the table.
pub(super) trait Policy {
    /// Whether a player may send this request: it concerns no other player.
    fn is_own(&self, player: UserId) -> bool;

    /// The rate limit that the call counts against.
    fn counted(&self) -> Counted;
}

/// Each line: `Method(Request): scope, players' own requests, counted as, audited as`, and `stream`
/// for a method whose answer is a stream.
macro_rules! methods {
    ($($service:literal {
        $($method:ident($request:ident):
            $scope:ident, $own:ident $(($($own_field:ident),*))?,
            $counted:ident $(($counted_field:ident))?, $audited:ident $(, $stream:ident)?;)+
    })+) => {
        /// The methods of the contract.
        pub(super) const CONTRACT: &[Method] = &[$($(
            Method {
                path: concat!("/heist.v1.", $service, "/", stringify!($method)),
                access: methods!(@access $own $scope),
                audited: methods!(@audited $audited),
                streams: methods!(@streams $($stream)?),
                messages: Messages { max_bytes: MAX_REQUEST_BYTES, many: false },
            },
        )+)+];
        $($(
            impl Policy for pb::$request {
                fn is_own(&self, player: UserId) -> bool {
                    methods!(@own $own self player $($($own_field)*)?)
                }

                fn counted(&self) -> Counted {
                    Counted::$counted $((self.$counted_field))?
                }
            }
        )+)+
    };
    (@access services $scope:ident) => { Access::Services(Scope::$scope) };
    (@access $own:ident $scope:ident) => { Access::PlayersAndServices(Scope::$scope) };
    (@streams) => { false };
    (@streams stream) => { true };
    (@audited no) => { None };
    (@audited $kind:ident) => { Some(Audited::$kind) };
    // Players may not call the method.
    (@own services $request:ident $player:ident) => {{ let _ = $player; false }};
    // Every request.
    (@own any $request:ident $player:ident) => {{ let _ = $player; true }};
    // The field names the player.
    (@own own $request:ident $player:ident $field:ident) => { $request.$field == $player.get() };
    // The field names the player or is 0.
    (@own own_or_none $request:ident $player:ident $field:ident) => {
        [0, $player.get()].contains(&$request.$field)
    };
    // The list names only the player.
    (@own own_only $request:ident $player:ident $field:ident) => {
        $request.$field.iter().all(|id| *id == $player.get())
    };
}

methods! {
    "HeistService" {
        ExecuteHeist(ExecuteHeistRequest):
            HeistExecute, own(attacker_id), Heist(attacker_id), Heist;
        CheckEligibility(CheckEligibilityRequest):
            HeistRead, own(attacker_id), Other(attacker_id), no;
        // Counts as one call, whatever the number of victims.
        BatchCheckEligibility(BatchCheckEligibilityRequest):
            HeistRead, own(attacker_id), Other(attacker_id), no;
        // A player sees only heists that they took part in: see `accept::may_see`.
        GetHeist(GetHeistRequest): HeistRead, any, Unlimited, no;
        ListHeists(ListHeistsRequest): HeistRead, own(user_id), Other(user_id), no;
        GetHeistStats(GetHeistStatsRequest): HeistRead, own(user_id), Other(user_id), no;
        GetRules(GetRulesRequest): HeistRead, any, Unlimited, no;
        GetLeaderboard(GetLeaderboardRequest):
            HeistRead, own_or_none(viewer_id), Other(viewer_id), no;
        // The stream reveals the attacker and the victim of every heist.
        WatchPoints(WatchPointsRequest): HeistRead, services, Unlimited, no, stream;
    }
    "TokenService" {
        // Counted for the referred player, so that many signups with one code do not reach a limit.
        AwardToken(AwardTokenRequest): TokenAward, services, Other(referred_id), Award;
        GetBalance(GetBalanceRequest): TokenRead, own(user_id), Other(user_id), no;
        BatchGetBalances(BatchGetBalancesRequest): TokenRead, own_only(user_ids), Unlimited, no;
        ListTokenEvents(ListTokenEventsRequest): TokenRead, own(user_id), Other(user_id), no;
        AdjustBalance(AdjustBalanceRequest): TokenAdjust, services, Other(user_id), Adjustment;
    }
    "NotificationService" {
        ListNotifications(ListNotificationsRequest):
            NotificationRead, own(user_id), Other(user_id), no;
        GetUnreadCount(GetUnreadCountRequest):
            NotificationRead, own(user_id), Other(user_id), no;
        MarkNotificationsRead(MarkNotificationsReadRequest):
            NotificationWrite, own(user_id), Other(user_id), no;
        GetPreferences(GetPreferencesRequest):
            NotificationRead, own(user_id), Other(user_id), no;
        UpdatePreferences(UpdatePreferencesRequest):
            NotificationWrite, own(user_id), Other(user_id), no;
        // Counted once, when the stream opens.
        StreamNotifications(StreamNotificationsRequest):
            NotificationRead, own(user_id), Other(user_id), no, stream;
    }
}

/// The methods of other services on the port.
const OPEN: &[Method] = &[
    health("/grpc.health.v1.Health/Check", false),
    health("/grpc.health.v1.Health/List", false),
    health("/grpc.health.v1.Health/Watch", true),
    reflection("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    reflection("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

const fn health(path: &'static str, streams: bool) -> Method {
    Method {
        path,
        access: Access::Open,
        audited: None,
        streams,
        messages: Messages {
            max_bytes: MAX_HEALTH_BYTES,
            many: false,
        },
    }
}

const fn reflection(path: &'static str) -> Method {
    Method {
        path,
        access: Access::Open,
        audited: None,
        streams: true,
        messages: Messages {
            max_bytes: MAX_REFLECTION_BYTES,
            many: true,
        },
    }
}

impl Method {
    /// The method with this path; `None` if the table has no line for it.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        CONTRACT
            .iter()
            .chain(OPEN)
            .find(|method| method.path == path)
    }

    /// Its name in metrics, traces and logs: `heist.v1.HeistService/ExecuteHeist`.
    pub(super) fn name(&self) -> &'static str {
        &self.path[1..]
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.access, Access::Open)
    }

    /// Whether the method is served while the feature is off.
    pub(super) fn ignores_feature_switch(&self) -> bool {
        self.is_open() || self.path == "/heist.v1.HeistService/GetRules"
    }

    /// Whether the method executes a heist, which has a rate limit of its own.
    pub(super) fn is_heist(&self) -> bool {
        matches!(self.audited, Some(Audited::Heist))
    }
}

impl Access {
    /// Whether this caller may call the method for at least one player.
    ///
    /// # Errors
    ///
    /// What the caller lacks.
    pub(super) fn check(self, who: &Who) -> Result<(), Denied> {
        match (self, who) {
            (Self::Open, _)
            | (_, Who::Unauthenticated)
            | (Self::PlayersAndServices(_), Who::Player(_)) => Ok(()),
            (
                Self::PlayersAndServices(scope) | Self::Services(scope),
                Who::Service { scopes, .. },
            ) => {
                if scopes.has(scope) {
                    Ok(())
                } else {
                    Err(Denied::ScopeNeeded(scope))
                }
            }
            (Self::Services(_), Who::Player(_)) => Err(Denied::NotForPlayers),
        }
    }
}

/// Why a caller may not call a method.
pub(super) enum Denied {
    ScopeNeeded(Scope),
    NotForPlayers,
}

/// Compares the table with the contract.
///
/// # Panics
///
/// A method of the contract has no line, or a line has no method.
pub(super) fn verify() {
    let descriptors = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET)
        .expect("the built-in descriptors decode");
    let services = (descriptors.file.iter())
        .filter(|file| file.package() == "heist.v1")
        .flat_map(|file| &file.service);
    let mut unmatched: Vec<&str> = CONTRACT.iter().map(|method| method.path).collect();
    for service in services {
        for method in &service.method {
            let path = format!("/heist.v1.{}/{}", service.name(), method.name());
            let line = Method::at(&path);
            assert!(
                line.is_some_and(|line| line.streams == method.server_streaming()),
                "rpc/methods.rs has no line for {path}, or a wrong one"
            );
            unmatched.retain(|line| *line != path);
        }
    }
    assert!(
        unmatched.is_empty(),
        "rpc/methods.rs has lines for methods that the contract does not have: {unmatched:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_matches_the_contract() {
        verify();
    }

    #[test]
    fn unknown_paths_have_no_method() {
        let execute = "/heist.v1.HeistService/ExecuteHeist";
        assert_eq!(Method::at(execute).unwrap().name(), &execute[1..]);
        for path in ["/", "/heist.v1.HeistService/Rob", "/x/y", "", &execute[1..]] {
            assert!(Method::at(path).is_none(), "{path}");
        }
        assert!(
            Method::at("/grpc.health.v1.Health/Check")
                .unwrap()
                .is_open()
        );
    }
}
