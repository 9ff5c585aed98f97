//! Heists: reads the facts that a batch needs, and saves its decisions.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use sqlx::{PgConnection, PgExecutor, query_file, query_file_as, query_file_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    ObservedExt as _, PgPool, StoreError, count,
    effects::{Effects, Interference, Written},
    emails::EmailSchedule,
};
use crate::domain::{
    heist::{Heist, HeistFacts, HeistOrder, HeistOutcome, HeistStats, Party},
    ids::{HeistId, InvalidId, RequestId, UserId},
    rules::Player,
};

/// Reads the facts that [`crate::domain::heist::decide`] needs besides the `players`. The
/// transaction of `connection` has locked the players' rows.
pub(crate) async fn load(
    connection: &mut PgConnection,
    orders: &[HeistOrder],
    mut players: HashMap<UserId, Player>,
) -> Result<HeistFacts, StoreError> {
    let attackers: Vec<i32> = orders.iter().map(|order| order.attacker.get()).collect();
    // Each victim once, because the statement looks up the robberies of each element.
    let victims: BTreeSet<i32> = orders.iter().map(|order| order.victim.get()).collect();
    let victims: Vec<i32> = victims.into_iter().collect();
    let request_ids: Vec<Uuid> = orders.iter().map(|order| order.request_id.get()).collect();
    let robberies_to_know = orders
        .iter()
        .map(|order| order.rules.robberies_to_know())
        .max()
        .unwrap_or(0);

    let facts = query_file!(
        "src/store/heists/load_facts.sql",
        count(orders.len()),
        &request_ids,
        &attackers,
        &victims,
        count(robberies_to_know),
    )
    .fetch_one(&mut *connection)
    .observed("heists.load")
    .await?;

    let accounts = (facts.account_user_ids.into_iter())
        .zip(facts.account_balances)
        .zip(facts.account_last_spent_times);
    for ((user_id, balance), last_spent_at) in accounts {
        if let Some(player) = players.get_mut(&UserId::new(user_id)?) {
            player.tokens = balance;
            player.last_heist_at = last_spent_at;
        }
    }
    for (victim_id, robbed_at) in facts
        .robbery_victim_ids
        .into_iter()
        .zip(facts.robbery_times)
    {
        if let Some(player) = players.get_mut(&UserId::new(victim_id)?) {
            player.robbed_at.push(robbed_at);
        }
    }

    let executed = if facts.seen_request_ids.is_empty() {
        HashMap::new()
    } else {
        let executed = find(connection, &[], &facts.seen_request_ids).await?;
        (executed.into_iter().map(|heist| (heist.request_id, heist))).collect()
    };

    Ok(HeistFacts {
        now: facts.now,
        players,
        executed,
        fresh_ids: facts
            .fresh_ids
            .into_iter()
            .map(HeistId::new)
            .collect::<Result<_, _>>()?,
    })
}

/// Writes the executed heists among `outcomes`: points, tokens, the heists themselves, point events
/// and notifications. `orders` and `outcomes` are parallel. With a `mail`, the notifications are
/// queued to be mailed.
///
/// # Errors
///
/// [`StoreError::Interference`] if the tables do not hold the decided values.
pub async fn save(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    orders: &[HeistOrder],
    outcomes: &[HeistOutcome],
    mail: Option<EmailSchedule>,
) -> Result<(), StoreError> {
    let mut columns = Columns::default();
    let mut effects = Effects::default();
    for (order, outcome) in orders.iter().zip(outcomes) {
        if let HeistOutcome::Executed {
            heist,
            protection_ends_at,
        } = outcome
        {
            columns.push(order, heist, *protection_ends_at);
            // A later heist of the batch replaces the values of an earlier one.
            (effects.points).insert(order.attacker, heist.attacker.points_after);
            (effects.points).insert(order.victim, heist.victim.points_after);
            (effects.balances).insert(order.attacker, heist.tokens_remaining);
        }
    }
    effects.heists = columns.ids.len();
    effects.point_events = 2 * effects.heists;
    effects.notifications = 2 * effects.heists;

    let saved = query_file!(
        "src/store/heists/save.sql",
        now,
        &columns.ids,
        &columns.attacker_ids,
        &columns.victim_ids,
        &columns.points_stolen,
        &columns.attacker_points_before,
        &columns.victim_points_before,
        &columns.tokens_remaining,
        &columns.request_ids,
        &columns.ip_addresses as &[Option<String>],
        &columns.gain_descriptions,
        &columns.loss_descriptions,
        &columns.protection_ends_at as &[Option<OffsetDateTime>],
        mail.as_ref().map(|mail| mail.due_at),
        mail.and_then(|mail| mail.trace_parent),
    )
    .fetch_one(&mut *connection)
    .observed("heists.save")
    .await?;
    if saved.event_types != 2 {
        let difference = format!(
            "has {} rows named HEIST_GAIN or HEIST_LOSS instead of one each",
            saved.event_types
        );
        return Err(Interference::new("PointEventTypeMaster", difference).into());
    }
    let written = Written {
        points: saved
            .player_ids
            .into_iter()
            .zip(saved.player_points)
            .collect(),
        balances: (saved.account_user_ids.into_iter())
            .zip(saved.account_balances)
            .collect(),
        heists: saved.heists,
        point_events: saved.point_events,
        notifications: saved.notifications,
        has_foreign_triggers: saved.has_foreign_triggers,
        ..Written::default()
    };
    effects.verify(connection, &written).await
}

/// One heist. `None` if no heist has this id.
pub async fn get(executor: impl PgExecutor<'_>, id: HeistId) -> Result<Option<Heist>, StoreError> {
    Ok(find(executor, &[id.get()], &[]).await?.pop())
}

/// Up to `limit` of a player's heists on the given sides, newest first, all with an id below
/// `before`.
pub async fn page(
    pool: &PgPool,
    user_id: UserId,
    sides: Sides,
    before: Option<HeistId>,
    limit: i64,
) -> Result<Vec<Heist>, StoreError> {
    let ids = query_file_scalar!(
        "src/store/heists/page_ids.sql",
        user_id.get(),
        before.map_or(i64::MAX, HeistId::get),
        limit,
        sides.attacker,
        sides.victim,
    )
    .fetch_all(pool)
    .observed("heists.page")
    .await?;
    let mut heists = find(pool, &ids, &[]).await?;
    heists.sort_unstable_by_key(|heist| Reverse(heist.id));
    Ok(heists)
}

/// Selects heists by the side that the player was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    pub attacker: bool,
    pub victim: bool,
}

/// Counts and sums of a player's heists on both sides.
pub async fn stats(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<HeistStats, StoreError> {
    let stats = query_file_as!(HeistStats, "src/store/heists/stats.sql", user_id.get())
        .fetch_one(executor)
        .observed("heists.stats")
        .await?;
    Ok(stats)
}

/// The heists that have one of the `ids` or `request_ids`, in no particular order. Unknown ids are
/// ignored.
async fn find(
    executor: impl PgExecutor<'_>,
    ids: &[i64],
    request_ids: &[Uuid],
) -> Result<Vec<Heist>, StoreError> {
    let rows = query_file_as!(HeistRow, "src/store/heists/find.sql", ids, request_ids)
        .fetch_all(executor)
        .observed("heists.find")
        .await?;
    rows.into_iter().map(|row| Ok(row.into_heist()?)).collect()
}

/// A batch of heists as the array parameters of `save.sql`.
#[derive(Default)]
struct Columns {
    ids: Vec<i64>,
    attacker_ids: Vec<i32>,
    victim_ids: Vec<i32>,
    points_stolen: Vec<i32>,
    attacker_points_before: Vec<i32>,
    victim_points_before: Vec<i32>,
    tokens_remaining: Vec<i32>,
    request_ids: Vec<Uuid>,
    ip_addresses: Vec<Option<String>>,
    gain_descriptions: Vec<String>,
    loss_descriptions: Vec<String>,
    protection_ends_at: Vec<Option<OffsetDateTime>>,
}

impl Columns {
    fn push(
        &mut self,
        order: &HeistOrder,
        heist: &Heist,
        protection_ends_at: Option<OffsetDateTime>,
    ) {
        self.ids.push(heist.id.get());
        self.attacker_ids.push(order.attacker.get());
        self.victim_ids.push(order.victim.get());
        self.points_stolen.push(heist.points_stolen);
        self.attacker_points_before
            .push(heist.attacker.points_before);
        self.victim_points_before.push(heist.victim.points_before);
        self.tokens_remaining.push(heist.tokens_remaining);
        self.request_ids.push(heist.request_id.get());
        self.ip_addresses
            .push(order.client_address.map(|address| address.to_string()));
        self.gain_descriptions.push(heist.gain_description());
        self.loss_descriptions.push(heist.loss_description());
        self.protection_ends_at.push(protection_ends_at);
    }
}

struct HeistRow {
    id: i64,
    attacker_id: Option<i32>,
    attacker_name: Option<String>,
    attacker_points_before: i32,
    attacker_points_after: i32,
    victim_id: Option<i32>,
    victim_name: Option<String>,
    victim_points_before: i32,
    victim_points_after: i32,
    points_stolen: i32,
    tokens_remaining: i32,
    request_id: Uuid,
    created_at: OffsetDateTime,
}

impl HeistRow {
    fn into_heist(self) -> Result<Heist, InvalidId> {
        Ok(Heist {
            id: HeistId::new(self.id)?,
            attacker: Party {
                id: self.attacker_id.map(UserId::new).transpose()?,
                name: self.attacker_name.unwrap_or_default(),
                points_before: self.attacker_points_before,
                points_after: self.attacker_points_after,
            },
            victim: Party {
                id: self.victim_id.map(UserId::new).transpose()?,
                name: self.victim_name.unwrap_or_default(),
                points_before: self.victim_points_before,
                points_after: self.victim_points_after,
            },
            points_stolen: self.points_stolen,
            tokens_remaining: self.tokens_remaining,
            request_id: RequestId::new(self.request_id),
            created_at: self.created_at,
        })
    }
}
