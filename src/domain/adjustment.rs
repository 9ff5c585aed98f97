//! Tokens granted or revoked by hand: what is asked, what is known, what is decided.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{
    ids::{AdjustmentId, RequestId, UserId},
    tokens::TokenAccount,
};

/// Somebody in charge changes a player's balance.
#[derive(Clone, Debug)]
pub struct AdjustmentOrder {
    pub user_id: UserId,
    /// Tokens granted, or where negative, revoked. Not 0.
    pub delta: i32,
    /// Why, for the statement and the audit.
    pub reason: String,
    /// Who does it.
    pub actor: String,
    pub request_id: RequestId,
}

/// What the database says about a batch of adjustments, read under the locks of its players.
#[derive(Clone, Debug)]
pub struct AdjustmentFacts {
    /// The database's clock, read after the locks were taken.
    pub now: OffsetDateTime,
    /// The account of every player who exists; an empty one where they never had a token.
    pub accounts: HashMap<UserId, TokenAccount>,
    /// Adjustments already made with a request id of this batch.
    pub made: HashMap<RequestId, Adjustment>,
    /// A fresh id for each order, growing.
    pub fresh_ids: Vec<AdjustmentId>,
}

/// An adjustment that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    pub id: AdjustmentId,
    pub user_id: UserId,
    pub delta: i32,
    pub balance_after: i32,
    pub actor: String,
    pub reason: String,
    pub request_id: RequestId,
    pub created_at: OffsetDateTime,
}

/// The answer to one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdjustmentOutcome {
    Adjusted {
        adjustment: Adjustment,
        account: TokenAccount,
    },
    /// It was made before, with the same request id. The account is that of today.
    Replayed(TokenAccount),
    UserNotFound,
    /// More would be revoked than there is.
    InsufficientTokens {
        balance: i32,
    },
    /// The request id belongs to another adjustment.
    RequestIdReused,
    /// The balance cannot be written down: it passes what the column holds.
    BalanceOutOfRange,
}

/// Decides a batch in the order of arrival; each decision sees what the ones before it changed.
#[must_use]
pub fn decide(orders: &[AdjustmentOrder], mut facts: AdjustmentFacts) -> Vec<AdjustmentOutcome> {
    let fresh_ids = std::mem::take(&mut facts.fresh_ids);
    orders
        .iter()
        .zip(fresh_ids)
        .map(|(order, id)| decide_one(order, id, &mut facts))
        .collect()
}

fn decide_one(
    order: &AdjustmentOrder,
    id: AdjustmentId,
    facts: &mut AdjustmentFacts,
) -> AdjustmentOutcome {
    let Some(account) = facts.accounts.get_mut(&order.user_id) else {
        return AdjustmentOutcome::UserNotFound;
    };
    if let Some(made) = facts.made.get(&order.request_id) {
        return if made.answers(order) {
            AdjustmentOutcome::Replayed(account.clone())
        } else {
            AdjustmentOutcome::RequestIdReused
        };
    }
    // First, so that a revocation of too many tokens is called so however many they are.
    if i64::from(account.balance) + i64::from(order.delta) < 0 {
        return AdjustmentOutcome::InsufficientTokens {
            balance: account.balance,
        };
    }
    let Some(adjusted) = account.adjusted(order.delta) else {
        return AdjustmentOutcome::BalanceOutOfRange;
    };
    *account = adjusted;
    let adjustment = Adjustment {
        id,
        user_id: order.user_id,
        delta: order.delta,
        balance_after: account.balance,
        actor: order.actor.clone(),
        reason: order.reason.clone(),
        request_id: order.request_id,
        created_at: facts.now,
    };
    facts.made.insert(order.request_id, adjustment.clone());
    AdjustmentOutcome::Adjusted {
        adjustment,
        account: account.clone(),
    }
}

impl Adjustment {
    /// Whether it is what `order` asks for, whoever asked first.
    fn answers(&self, order: &AdjustmentOrder) -> bool {
        (self.user_id, self.delta, &self.reason) == (order.user_id, order.delta, &order.reason)
    }
}
