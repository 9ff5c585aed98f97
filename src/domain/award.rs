//! A token for a referral: what is asked, what is known, what is decided.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{
    ids::{AwardId, UserId},
    tokens::TokenAccount,
};

/// Tokens that one referral earns.
pub const TOKENS_PER_REFERRAL: i32 = 1;

/// Somebody signed up with somebody's code.
#[derive(Clone, Debug)]
pub struct AwardOrder {
    pub referrer: UserId,
    pub referred: UserId,
    /// How the notification calls the referred player; `None`: by the name on their account.
    pub referred_name: Option<String>,
}

/// What the database says about a batch of awards, read under the locks of its referrers.
#[derive(Clone, Debug)]
pub struct AwardFacts {
    /// The database's clock, read after the locks were taken.
    pub now: OffsetDateTime,
    /// The account of every referrer who exists; an empty one where they never had a token.
    pub accounts: HashMap<UserId, TokenAccount>,
    /// Every referred player who exists, with who referred them as the application knows it.
    pub referred: HashMap<UserId, Option<UserId>>,
    /// Referred players who earned a token before, and for whom; `None`: for somebody who
    /// has been deleted since.
    pub awarded: HashMap<UserId, Option<UserId>>,
    /// A fresh id for each order, growing.
    pub fresh_ids: Vec<AwardId>,
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
    /// This referral earned its token before.
    AlreadyAwarded(TokenAccount),
    Refused(AwardRefusal),
    /// The balance cannot be written down: it passes what the column holds.
    BalanceOutOfRange,
}

/// Why a referral earns no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwardRefusal {
    /// Referrer and referred are the same player.
    SelfReferral,
    UserNotFound(UserId),
    /// The application says that somebody else referred this player.
    ReferralMismatch,
    /// This player's token was earned by somebody else.
    ReferralAlreadyAwarded,
}

impl AwardRefusal {
    /// What programs compare, on the wire, in logs and in metrics.
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

/// Decides a batch in the order of arrival; each decision sees what the ones before it changed.
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
    let awarded_to = facts.awarded.get(&referred);
    if awarded_to == Some(&Some(referrer)) {
        return AwardOutcome::AlreadyAwarded(account.clone());
    }
    if referred_by.is_some_and(|by| by != referrer) {
        return AwardOutcome::Refused(AwardRefusal::ReferralMismatch);
    }
    if awarded_to.is_some() {
        return AwardOutcome::Refused(AwardRefusal::ReferralAlreadyAwarded);
    }

    // The balance is never above what was earned.
    let Some(total_earned) = account.total_earned.checked_add(TOKENS_PER_REFERRAL) else {
        return AwardOutcome::BalanceOutOfRange;
    };
    account.total_earned = total_earned;
    account.balance += TOKENS_PER_REFERRAL;
    account.last_earned_at = Some(facts.now);
    facts.awarded.insert(referred, Some(referrer));
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
