//! One attempt at a batch: one transaction.

use std::{collections::HashMap, time::Duration};

use tokio::time::timeout;

use super::operations::Operation;
use crate::{
    domain::{ids::UserId, mailing::Mailing},
    store::{
        StoreError,
        players::{self, Locked},
        pool::{CommitError, Transaction},
    },
    telemetry::metrics::METRICS,
};

/// How long taking locks may take, which never waits.
const LOCK_LIMIT: Duration = Duration::from_secs(1);
/// How long loading, deciding and saving may take: a little more than PostgreSQL's own limits.
const APPLY_LIMIT: Duration = Duration::from_secs(4);

/// An order of a batch, and whether it is to be executed. One that is not is only looked after: its
/// caller is gone, and an earlier attempt at it may have been committed. When the locks of its
/// players are had, that attempt has ended.
pub(super) struct Item<'a, O: Operation> {
    pub(super) order: &'a O::Order,
    pub(super) is_executed: bool,
}

/// What an attempt found out about one order.
pub(super) enum Found<Outcome> {
    Decided(Outcome),
    /// Another transaction holds the row of this player.
    Held(UserId),
    /// Its players' locks were had, and it was not to be executed.
    Settled,
}

/// Why an attempt did not succeed.
pub(super) enum Failure<Outcome> {
    /// Nothing happened.
    NotCommitted(StoreError),
    /// The commit was not confirmed: either all of it happened or nothing did. `found` is what was
    /// decided.
    Unknown {
        found: Vec<Found<Outcome>>,
        error: StoreError,
    },
}

impl<Outcome> From<StoreError> for Failure<Outcome> {
    fn from(error: StoreError) -> Self {
        Self::NotCommitted(error)
    }
}

/// Locks what is free, and executes the orders whose players are locked. Returns what was found out
/// about each item, in their order.
pub(super) async fn attempt<O: Operation>(
    mut transaction: Transaction,
    items: &[Item<'_, O>],
    mailing: Option<Mailing>,
) -> Result<Vec<Found<O::Outcome>>, Failure<O::Outcome>> {
    let locked = lock::<O>(&mut transaction, items).await?;
    let holder = |order: &O::Order| {
        let players = O::players(order);
        players
            .into_iter()
            .find(|player| locked.held.contains(player))
    };
    let mut held: HashMap<usize, UserId> = HashMap::new();
    let mut orders = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(player) = holder(item.order) {
            held.insert(index, player);
        } else if item.is_executed {
            orders.push(item.order.clone());
        }
    }

    let outcomes = if orders.is_empty() {
        Vec::new()
    } else {
        let applied = O::apply(&mut transaction, &orders, locked, mailing);
        let applied = timeout(APPLY_LIMIT, applied).await;
        transaction.checked(applied)?
    };
    // An answer that was found in the books has to be as durable as one of our own. The commit of
    // this transaction, which has locked rows and so written to the log, waits for the same disk and
    // the same standbys.
    let is_committed = outcomes.iter().any(|it| O::wrote(it) || O::was_found(it));
    let wrote = outcomes.iter().any(O::wrote);
    let mut outcomes = outcomes.into_iter();
    let found = (items.iter().enumerate()).map(|(index, item)| match held.get(&index) {
        Some(player) => Found::Held(*player),
        None if item.is_executed => {
            Found::Decided(outcomes.next().expect("there is one for each order"))
        }
        None => Found::Settled,
    });
    let found: Vec<_> = found.collect();

    if !is_committed {
        METRICS.transactions(1, O::NAME, "empty");
        // There is nothing to undo: a rollback that fails changes no answer.
        let _ = transaction.rollback().await;
        return Ok(found);
    }
    match transaction.commit().await {
        Ok(()) => {
            METRICS.transactions(1, O::NAME, if wrote { "committed" } else { "empty" });
            Ok(found)
        }
        Err(CommitError::Unknown(error)) => Err(Failure::Unknown { found, error }),
        Err(CommitError::NotCommitted(error)) => Err(Failure::NotCommitted(error)),
    }
}

async fn lock<O: Operation>(
    transaction: &mut Transaction,
    items: &[Item<'_, O>],
) -> Result<Locked, StoreError> {
    let mut players: Vec<UserId> = (items.iter())
        .flat_map(|item| O::players(item.order))
        .collect();
    players.sort_unstable();
    players.dedup();
    let locked = timeout(LOCK_LIMIT, players::lock(transaction, &players)).await;
    transaction.checked(locked)
}
