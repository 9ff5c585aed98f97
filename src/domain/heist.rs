//! A heist: what is asked, what is known, what is decided.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use time::OffsetDateTime;

use super::{
    ids::{HeistId, RequestId, UserId},
    rules::{Player, Refusal, Rules},
};

/// Somebody wants to rob somebody.
#[derive(Clone, Debug)]
pub struct HeistOrder {
    pub attacker: UserId,
    pub victim: UserId,
    pub request_id: RequestId,
    /// Where the call came from, kept with the heist for audits.
    pub caller_address: Option<IpAddr>,
    /// The rules as they were when the call arrived: a change of the settings does not
    /// reach heists in progress.
    pub rules: Arc<Rules>,
}

/// A heist that happened. Points are whole monthly points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heist {
    pub id: HeistId,
    pub attacker: Party,
    pub victim: Party,
    pub points_stolen: i32,
    /// The attacker's tokens after they spent one.
    pub tokens_remaining: i32,
    pub request_id: RequestId,
    pub created_at: OffsetDateTime,
}

/// One side of a heist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// `None` where the player has been deleted since.
    pub id: Option<UserId>,
    /// Empty where the player has been deleted since.
    pub name: String,
    pub points_before: i32,
    pub points_after: i32,
}

/// A player's heists on both sides, summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeistStats {
    pub heists_as_attacker: i64,
    pub heists_as_victim: i64,
    pub points_stolen: i64,
    pub points_lost: i64,
}

/// What the database says about a batch of orders, read under the locks of its players.
#[derive(Clone, Debug)]
pub struct HeistFacts {
    /// The database's clock, read after the locks were taken.
    pub now: OffsetDateTime,
    /// Every player of the batch who exists.
    pub players: HashMap<UserId, Player>,
    /// Heists already executed with a request id of this batch.
    pub executed: HashMap<RequestId, Heist>,
    /// A fresh id for each order, growing.
    pub fresh_ids: Vec<HeistId>,
}

/// The answer to one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeistOutcome {
    /// It happens now.
    Executed {
        heist: Heist,
        /// Set where this robbery leaves the victim protected.
        protection_ends_at: Option<OffsetDateTime>,
    },
    /// It happened before, with the same request id.
    Replayed(Heist),
    Refused {
        refusal: Refusal,
        /// The time of the decision.
        at: OffsetDateTime,
    },
    /// The request id belongs to a heist between other players.
    RequestIdReused,
    /// The attacker's points cannot be written down: the sum passes what the column holds,
    /// or an account that was negative before the service came would stay so.
    PointsOutOfRange,
}

/// Decides a batch in the order of arrival.
///
/// Each decision sees what the ones before it changed, exactly as if the orders had come
/// one by one: ten robbers of one victim find 1000 points, 950, 903, …
#[must_use]
pub fn decide(orders: &[HeistOrder], mut facts: HeistFacts) -> Vec<HeistOutcome> {
    let fresh_ids = std::mem::take(&mut facts.fresh_ids);
    orders
        .iter()
        .zip(fresh_ids)
        .map(|(order, id)| decide_one(order, id, &mut facts))
        .collect()
}

fn decide_one(order: &HeistOrder, id: HeistId, facts: &mut HeistFacts) -> HeistOutcome {
    if let Some(heist) = facts.executed.get(&order.request_id) {
        return if heist.is_between(order.attacker, order.victim) {
            HeistOutcome::Replayed(heist.clone())
        } else {
            HeistOutcome::RequestIdReused
        };
    }

    let judgement = (order.rules).judge(facts.now, order.attacker, order.victim, &facts.players);
    let points_stolen = match judgement {
        Ok(points) => points,
        Err(refusal) => {
            return HeistOutcome::Refused {
                refusal,
                at: facts.now,
            };
        }
    };

    let attacker = facts.players.get_mut(&order.attacker).expect("judged");
    let attacker_points_before = attacker.points;
    let Some(attacker_points_after) = attacker_points_before
        .checked_add(points_stolen)
        .filter(|points| *points >= 0)
    else {
        return HeistOutcome::PointsOutOfRange;
    };
    attacker.points = attacker_points_after;
    attacker.tokens -= 1;
    attacker.last_heist_at = Some(facts.now);
    let tokens_remaining = attacker.tokens;
    let attacker = Party {
        id: Some(attacker.id),
        name: attacker.name.clone(),
        points_before: attacker_points_before,
        points_after: attacker_points_after,
    };

    let victim = facts.players.get_mut(&order.victim).expect("judged");
    let victim_points_before = victim.points;
    victim.points -= points_stolen;
    victim.robbed_at.push(facts.now);
    let protection_ends_at = order.rules.protection_end(victim, facts.now);
    let victim = Party {
        id: Some(victim.id),
        name: victim.name.clone(),
        points_before: victim_points_before,
        points_after: victim.points,
    };

    let heist = Heist {
        id,
        attacker,
        victim,
        points_stolen,
        tokens_remaining,
        request_id: order.request_id,
        created_at: facts.now,
    };
    facts.executed.insert(order.request_id, heist.clone());
    HeistOutcome::Executed {
        heist,
        protection_ends_at,
    }
}

impl Heist {
    /// Whether these were the players. A side that has been deleted since may be anybody:
    /// the caller who knows the request id knows whom they asked for.
    fn is_between(&self, attacker: UserId, victim: UserId) -> bool {
        self.attacker.id.is_none_or(|id| id == attacker)
            && self.victim.id.is_none_or(|id| id == victim)
    }

    /// How the attacker's point event is described.
    #[must_use]
    pub fn gain_description(&self) -> String {
        format!(
            "Stole {} points from {}",
            self.points_stolen, self.victim.name
        )
    }

    /// How the victim's point event is described.
    #[must_use]
    pub fn loss_description(&self) -> String {
        format!(
            "Lost {} points to {}",
            self.points_stolen, self.attacker.name
        )
    }
}
