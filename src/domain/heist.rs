//! Heists: an attacker spends a token and steals points from a victim.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use time::OffsetDateTime;

use super::{
    ids::{HeistId, RequestId, UserId},
    rules::{Player, Refusal, Rules},
};

/// A request to execute a heist.
#[derive(Clone, Debug)]
pub struct HeistOrder {
    pub attacker: UserId,
    pub victim: UserId,
    pub request_id: RequestId,
    /// The IP address of the client. It is stored with the heist for audits.
    pub client_address: Option<IpAddr>,
    /// The rules at the time of the call's arrival. A later change of the settings does not affect
    /// this order.
    pub rules: Arc<Rules>,
}

/// An executed heist. Points are whole monthly points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heist {
    pub id: HeistId,
    pub attacker: Party,
    pub victim: Party,
    pub points_stolen: i32,
    /// The attacker's balance of tokens after the heist.
    pub tokens_remaining: i32,
    pub request_id: RequestId,
    pub created_at: OffsetDateTime,
}

/// One side of a heist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// `None` if the player has been deleted since.
    pub id: Option<UserId>,
    /// Empty if the player has been deleted since.
    pub name: String,
    pub points_before: i32,
    pub points_after: i32,
}

/// Counts and sums of a player's heists, as attacker and as victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeistStats {
    pub heists_as_attacker: i64,
    pub heists_as_victim: i64,
    pub points_stolen: i64,
    pub points_lost: i64,
}

/// The rows that a batch of heists needs, read under the locks of its players.
#[derive(Clone, Debug)]
pub struct HeistFacts {
    /// The database's clock, read after the locks were taken.
    pub now: OffsetDateTime,
    /// The existing players of the batch.
    pub players: HashMap<UserId, Player>,
    /// Earlier heists that have a request id of this batch.
    pub executed: HashMap<RequestId, Heist>,
    /// A new id for each order, in ascending order.
    pub fresh_ids: Vec<HeistId>,
}

/// The answer to one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeistOutcome {
    /// This batch executes the heist.
    Executed {
        heist: Heist,
        /// Set if this heist leaves the victim protected.
        protection_ends_at: Option<OffsetDateTime>,
    },
    /// An earlier order with the same request id executed this heist.
    Replayed(Heist),
    Refused {
        refusal: Refusal,
        /// The time of the decision.
        at: OffsetDateTime,
    },
    /// The request id belongs to a heist between other players.
    RequestIdReused,
}

/// Decides a batch in the order of arrival.
///
/// Each decision sees the changes of the earlier ones, as if each order had a transaction of its
/// own: ten attackers of one victim find 1000, 950, 903, … points.
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
    attacker.points += points_stolen;
    attacker.tokens -= 1;
    attacker.last_heist_at = Some(facts.now);
    let tokens_remaining = attacker.tokens;
    let attacker = Party {
        id: Some(attacker.id),
        name: attacker.name.clone(),
        points_before: attacker_points_before,
        points_after: attacker.points,
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
    /// Whether `attacker` and `victim` were the players. A deleted player matches any id, because
    /// the heist no longer holds the id to compare with.
    fn is_between(&self, attacker: UserId, victim: UserId) -> bool {
        self.attacker.id.is_none_or(|id| id == attacker)
            && self.victim.id.is_none_or(|id| id == victim)
    }

    /// The description of the attacker's point event.
    #[must_use]
    pub fn gain_description(&self) -> String {
        format!(
            "Stole {} points from {}",
            self.points_stolen, self.victim.name
        )
    }

    /// The description of the victim's point event.
    #[must_use]
    pub fn loss_description(&self) -> String {
        format!(
            "Lost {} points to {}",
            self.points_stolen, self.attacker.name
        )
    }
}
