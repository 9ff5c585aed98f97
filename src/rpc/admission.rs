//! Which calls are let in: whom each counts for, and how often they may be called for. Who may
//! call at all is decided first, in [`access`].
//!
//! A limit comes after the switch, since it is a rule of what is switched on, and before the
//! rest of the request is looked at: malformed calls cost as much as others, and count. It is no
//! defence of the books. Those have the rules under the row locks, which hold for all replicas,
//! while each replica counts for itself.

use tokio::time::Instant;
use tonic::{Request, Status};

use super::{
    Api,
    access::{self, Access},
    deadline,
    rate_limiter::RateLimiter,
    status,
};
use crate::{domain::ids::UserId, pb, settings::RateLimits};

/// Whom a call counts for, by the id that the request names; an id that is not positive is
/// nobody's.
pub(super) enum Counts {
    /// As a heist call of the attacker.
    Heist(i32),
    /// As another call for this player.
    Other(i32),
    /// For no player in particular.
    ForNobody,
}

/// A request of the contract. One that is missing in the table below cannot be let in, and does
/// not compile.
pub(super) trait Counted {
    fn counts(&self) -> Counts;
}

macro_rules! counted {
    ($($request:ident => $counts:ident $(($player:ident))?;)+) => {
        $(
            impl Counted for pb::$request {
                fn counts(&self) -> Counts {
                    Counts::$counts $((self.$player))?
                }
            }
        )+
    };
}

counted! {
    ExecuteHeistRequest => Heist(attacker_id);
    CheckEligibilityRequest => Other(attacker_id);
    // Once, however many victims.
    BatchCheckEligibilityRequest => Other(attacker_id);
    // Names no player.
    GetHeistRequest => ForNobody;
    ListHeistsRequest => Other(user_id);
    GetHeistStatsRequest => Other(user_id);
    // For nobody without a viewer.
    GetLeaderboardRequest => Other(viewer_id);
    WatchPointsRequest => ForNobody;

    // Not for the referrer: however many sign up with one code, none of them is refused.
    AwardTokenRequest => Other(referred_id);
    GetBalanceRequest => Other(user_id);
    // A service's own question about many players, none of whom asked.
    BatchGetBalancesRequest => ForNobody;
    ListTokenEventsRequest => Other(user_id);
    AdjustBalanceRequest => Other(user_id);

    ListNotificationsRequest => Other(user_id);
    GetUnreadCountRequest => Other(user_id);
    MarkNotificationsReadRequest => Other(user_id);
    // Once, when it is opened.
    StreamNotificationsRequest => Other(user_id);
}

/// The calls so far.
pub(super) struct Rates {
    heists: RateLimiter,
    others: RateLimiter,
}

impl Rates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heists: RateLimiter::new(now),
            others: RateLimiter::new(now),
        }
    }

    fn count(&self, limits: RateLimits, counts: &Counts, now: Instant) -> Result<(), Status> {
        let (limiter, limit, player) = match *counts {
            Counts::Heist(attacker) => (&self.heists, limits.heists, attacker),
            Counts::Other(player) => (&self.others, limits.others, player),
            Counts::ForNobody => return Ok(()),
        };
        match (limit, UserId::new(player)) {
            (Some(limit), Ok(player)) => limiter
                .count(player, limit, now)
                .map_err(|wait| status::rate_limited(limit, wait)),
            _ => Ok(()),
        }
    }
}

/// Lets a call in, and says when its answer has to be on its way.
///
/// # Errors
///
/// `PERMISSION_DENIED` where the caller may not act for its player, `RATE_LIMITED` where that
/// player has been called for too often.
pub(super) fn admit<T: Access + Counted>(
    api: &Api,
    request: &Request<T>,
) -> Result<Instant, Status> {
    access::check(request)?;
    let counts = request.get_ref().counts();
    (api.limiters.rates).count(api.settings.now().rates, &counts, Instant::now())?;
    Ok(deadline::of(request))
}
