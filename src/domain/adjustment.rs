//! Adjustments: an operator grants or revokes tokens by hand.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{
    ids::{AdjustmentId, RequestId, UserId},
    tokens::TokenAccount,
};

/// A request to change a player's balance.
#[derive(Clone, Debug)]
pub struct AdjustmentOrder {
    pub user_id: UserId,
    /// Tokens to grant if positive, to revoke if negative. Never 0.
    pub delta: i32,
    /// The operator's reason, shown in the statement and in the audit log.
    pub reason: String,
    /// The operator who makes the adjustment.
    pub actor: String,
    pub request_id: RequestId,
}

/// The rows that a batch of adjustments needs, read under the locks of its players.
#[derive(Clone, Debug)]
pub struct AdjustmentFacts {
    /// The database's clock, read after the locks were taken.
    pub now: OffsetDateTime,
    /// The account of each existing player. It is empty if the player never had a token.
    pub accounts: HashMap<UserId, TokenAccount>,
    /// Earlier adjustments that have a request id of this batch.
    pub made: HashMap<RequestId, Adjustment>,
    /// A new id for each order, in ascending order.
    pub fresh_ids: Vec<AdjustmentId>,
}

/// An adjustment that was made.
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
    /// An earlier order with the same request id made the adjustment `id`. The account is the
    /// current one.
    Replayed {
        id: AdjustmentId,
        account: TokenAccount,
    },
    UserNotFound,
    /// The order revokes more tokens than the balance holds.
    InsufficientTokens {
        balance: i32,
    },
    /// The request id belongs to another adjustment.
    RequestIdReused,
    /// The new balance does not fit into the column, a 32-bit integer.
    BalanceOutOfRange,
}

/// Decides a batch in the order of arrival. Each decision sees the changes of the earlier ones.
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
            AdjustmentOutcome::Replayed {
                id: made.id,
                account: account.clone(),
            }
        } else {
            AdjustmentOutcome::RequestIdReused
        };
    }
    // This check comes before the range check, so that a revocation that is too large is always
    // refused as InsufficientTokens.
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
    /// Whether `order` asks for this adjustment. The actor may differ.
    fn answers(&self, order: &AdjustmentOrder) -> bool {
        (self.user_id, self.delta, &self.reason) == (order.user_id, order.delta, &order.reason)
    }
}
