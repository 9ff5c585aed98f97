//! The checks that need the decoded request: whether a player's request concerns that player, and
//! whether services have called too often for the player that the request names. The layers have
//! already authenticated the caller.
//!
//! Rate limits are counted per replica and before validation, so malformed calls count. They
//! protect the server's capacity; the rules of the game are checked under row locks.

use tokio::time::Instant;
use tonic::{Request, Status};

use super::{Api, deadline::Deadline, methods::Policy, status};
use crate::{
    auth::{Caller, Who},
    domain::heist::Heist,
    telemetry::request,
};

impl Api {
    /// Accepts a decoded request, as the first step of each method, and returns the deadline of its
    /// answer.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` if a player's request concerns another player, `RATE_LIMITED` if
    /// services have called too often for the player that the request names.
    pub(super) fn accept<T: Policy>(&self, request: &Request<T>) -> Result<Instant, Status> {
        request::mark_decoded();
        let message = request.get_ref();
        match caller(request).who {
            Who::Player(player) if !message.is_own(player) => {
                return Err(status::only_for_oneself());
            }
            // The `RateLimit` layer has counted the call.
            Who::Player(_) => {}
            Who::Unauthenticated | Who::Service { .. } => {
                let limits = self.settings.now().rates;
                self.traffic.rates.count(limits, message.counted())?;
            }
        }
        let deadline: &Deadline = (request.extensions().get())
            .expect("EnforceDeadline inserts the deadline of every accepted call");
        Ok(deadline.answer_ready)
    }
}

/// Whether the caller may see this heist: a player sees the heists that they took part in.
pub(super) fn may_see<T>(request: &Request<T>, heist: &Heist) -> bool {
    match caller(request).who {
        Who::Player(player) => [heist.attacker.id, heist.victim.id].contains(&Some(player)),
        _ => true,
    }
}

/// The caller, as the `Authenticate` layer found it.
pub(super) fn caller<T>(request: &Request<T>) -> &Caller {
    (request.extensions().get()).expect("Authenticate inserts the caller of every accepted call")
}
