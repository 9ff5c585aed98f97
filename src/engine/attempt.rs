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

/// The time limit of the statement that locks the players. It skips locked rows, so it never waits
/// for one.
const LOCK_LIMIT: Duration = Duration::from_secs(1);
/// The time limit for loading, deciding and saving together: 1 s more than PostgreSQL's
/// `statement_timeout` in a transaction.
const APPLY_LIMIT: Duration = Duration::from_secs(4);

/// An order of a batch. An order with `is_executed: false` only has its players locked: its caller
/// is gone, and the commit of an earlier attempt was not confirmed. When this transaction has
/// locked the players, the earlier attempt has ended.
pub(super) struct BatchItem<'a, O: Operation> {
    pub(super) order: &'a O::Order,
    pub(super) is_executed: bool,
    /// A player who existed a moment ago, and whose row another transaction held.
    pub(super) held: Option<UserId>,
}

/// The result of an attempt for one order.
pub(super) enum AttemptResult<Outcome> {
    Decided(Outcome),
    /// Another transaction holds the row of this player.
    Held(UserId),
    /// The players were locked, and the order was not to be executed.
    EarlierAttemptEnded,
}

/// Why an attempt did not succeed.
pub(super) enum AttemptError<Outcome> {
    /// The transaction changed nothing.
    NotCommitted(StoreError),
    /// The commit was not confirmed: PostgreSQL has committed the whole transaction or nothing of
    /// it. `found` holds the decisions.
    Unknown {
        found: Vec<AttemptResult<Outcome>>,
        error: StoreError,
    },
}

impl<Outcome> From<StoreError> for AttemptError<Outcome> {
    fn from(error: StoreError) -> Self {
        Self::NotCommitted(error)
    }
}

/// Locks the players whose rows are free, and executes the orders all of whose players are locked.
/// Returns one result for each item, in the order of the items.
pub(super) async fn attempt<O: Operation>(
    mut transaction: Transaction,
    items: &[BatchItem<'_, O>],
    mailing: Option<Mailing>,
) -> Result<Vec<AttemptResult<O::Outcome>>, AttemptError<O::Outcome>> {
    let locked = lock::<O>(&mut transaction, items).await?;
    let holds_locks = !locked.players.is_empty();
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
    // A transaction that wrote nothing also commits if it found the answer of an earlier
    // transaction, because an answer must be durable before the caller gets it. If this transaction
    // has locked a row, its commit writes to the write-ahead log and waits for the disk and the
    // synchronous standbys. Otherwise it writes a record to the log for that. Then the earlier
    // commit is durable, too.
    let is_committed = outcomes.iter().any(|it| O::wrote(it) || O::was_found(it));
    let wrote = outcomes.iter().any(O::wrote);
    if is_committed && !wrote && !holds_locks {
        let written = timeout(LOCK_LIMIT, transaction.write_to_log()).await;
        transaction.checked(written)?;
    }
    let mut outcomes = outcomes.into_iter();
    let found = (items.iter().enumerate()).map(|(index, item)| match held.get(&index) {
        Some(player) => AttemptResult::Held(*player),
        None if item.is_executed => {
            AttemptResult::Decided(outcomes.next().expect("there is one for each order"))
        }
        None => AttemptResult::EarlierAttemptEnded,
    });
    let found: Vec<_> = found.collect();

    if !is_committed {
        METRICS.transactions(1, O::NAME, "empty");
        // The transaction wrote nothing, so a failed rollback changes no answer.
        let _ = transaction.rollback().await;
        return Ok(found);
    }
    match transaction.commit().await {
        Ok(()) => {
            METRICS.transactions(1, O::NAME, if wrote { "committed" } else { "empty" });
            Ok(found)
        }
        Err(CommitError::Unknown(error)) => Err(AttemptError::Unknown { found, error }),
        Err(CommitError::NotCommitted(error)) => Err(AttemptError::NotCommitted(error)),
    }
}

async fn lock<O: Operation>(
    transaction: &mut Transaction,
    items: &[BatchItem<'_, O>],
) -> Result<Locked, StoreError> {
    let mut players: Vec<UserId> = (items.iter())
        .flat_map(|item| O::players(item.order))
        .collect();
    players.sort_unstable();
    players.dedup();
    let known: Vec<UserId> = items.iter().filter_map(|item| item.held).collect();
    let locked = timeout(LOCK_LIMIT, players::lock(transaction, &players, &known)).await;
    transaction.checked(locked)
}
