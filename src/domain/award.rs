//! Awards: a referral earns its referrer a token.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{
    ids::{AwardId, UserId},
    tokens::TokenAccount,
};

/// Tokens that one referral earns.
pub const TOKENS_PER_REFERRAL: i32 = 1;

/// A request to award `referrer` a token because `referred` signed up with the referrer's code.
#[derive(Clone, Debug)]
pub struct AwardOrder {
    pub referrer: UserId,
    pub referred: UserId,
    /// The referred player's name in the notification. `None` means the name on the account.
    pub referred_name: Option<String>,
}

/// The rows that a batch of awards needs, read under the locks of its referrers and referred
/// players.
#[derive(Clone, Debug)]
pub struct AwardFacts {
    /// The database's clock, read after the locks were taken.
    pub now: OffsetDateTime,
    /// The account of each existing referrer. It is empty if the referrer never had a token.
    pub accounts: HashMap<UserId, TokenAccount>,
    /// Each existing referred player, with the referrer that the application has recorded.
    pub referred: HashMap<UserId, Option<UserId>>,
    /// Referred players who have already earned a token, with its award.
    pub awarded: HashMap<UserId, PastAward>,
    /// A new id for each order, in ascending order.
    pub fresh_ids: Vec<AwardId>,
}

/// An award that was made before, as far as a decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAward {
    pub id: AwardId,
    /// `None` if the referrer has been deleted since.
    pub referrer: Option<UserId>,
}

/// A token that a referral earned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Award {
    pub id: AwardId,
    pub referrer: UserId,
    pub referred: UserId,
    pub referred_name: Option<String>,
    pub balance_after: i32,
    pub created_at: OffsetDateTime,
}

/// The answer to one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwardOutcome {
    Awarded {
        award: Award,
        account: TokenAccount,
    },
    /// This referral has already earned its token, by the award `id`. The account is the current
    /// one.
    AlreadyAwarded {
        id: AwardId,
        account: TokenAccount,
    },
    Refused(AwardRefusal),
    /// The new balance does not fit into the column, a 32-bit integer.
    BalanceOutOfRange,
}

/// Why a referral earns no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwardRefusal {
    /// Referrer and referred are the same player.
    SelfReferral,
    UserNotFound(UserId),
    /// The application has recorded another referrer for this player.
    ReferralMismatch,
    /// Another referrer has already earned the token for this player.
    ReferralAlreadyAwarded,
}

impl AwardRefusal {
    /// The stable name of this refusal on the wire, in logs and in metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SelfReferral => "SELF_REFERRAL",
            Self::UserNotFound(_) => "USER_NOT_FOUND",
            Self::ReferralMismatch => "REFERRAL_MISMATCH",
            Self::ReferralAlreadyAwarded => "REFERRAL_ALREADY_AWARDED",
        }
    }
}

/// Decides a batch in the order of arrival. Each decision sees the changes of the earlier ones.
#[must_use]
pub fn decide(orders: &[AwardOrder], mut facts: AwardFacts) -> Vec<AwardOutcome> {
    let fresh_ids = std::mem::take(&mut facts.fresh_ids);
    orders
        .iter()
        .zip(fresh_ids)
        .map(|(order, id)| decide_one(order, id, &mut facts))
        .collect()
}

fn decide_one(order: &AwardOrder, id: AwardId, facts: &mut AwardFacts) -> AwardOutcome {
    let AwardOrder {
        referrer, referred, ..
    } = *order;
    if referrer == referred {
        return AwardOutcome::Refused(AwardRefusal::SelfReferral);
    }
    let Some(account) = facts.accounts.get_mut(&referrer) else {
        return AwardOutcome::Refused(AwardRefusal::UserNotFound(referrer));
    };
    let Some(&referred_by) = facts.referred.get(&referred) else {
        return AwardOutcome::Refused(AwardRefusal::UserNotFound(referred));
    };
    let past = facts.awarded.get(&referred);
    if let Some(award) = past
        && award.referrer == Some(referrer)
    {
        return AwardOutcome::AlreadyAwarded {
            id: award.id,
            account: account.clone(),
        };
    }
    if referred_by.is_some_and(|by| by != referrer) {
        return AwardOutcome::Refused(AwardRefusal::ReferralMismatch);
    }
    if past.is_some() {
        return AwardOutcome::Refused(AwardRefusal::ReferralAlreadyAwarded);
    }

    // The balance never exceeds `total_earned`, so this check covers both additions.
    let Some(total_earned) = account.total_earned.checked_add(TOKENS_PER_REFERRAL) else {
        return AwardOutcome::BalanceOutOfRange;
    };
    account.total_earned = total_earned;
    account.balance += TOKENS_PER_REFERRAL;
    account.last_earned_at = Some(facts.now);
    let past = PastAward {
        id,
        referrer: Some(referrer),
    };
    facts.awarded.insert(referred, past);
    AwardOutcome::Awarded {
        award: Award {
            id,
            referrer,
            referred,
            referred_name: order.referred_name.clone(),
            balance_after: account.balance,
            created_at: facts.now,
        },
        account: account.clone(),
    }
}
