//! Whether the books say what callers were answered.

use std::collections::{HashMap, HashSet};

use sqlx::{Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use super::{
    callers::{Call, Heist},
    server::heist,
    stage::Stage,
};

#[derive(Default)]
pub struct Findings {
    /// Answered, but not in the books, or with other numbers.
    pub lost: usize,
    /// In the books more than once, or refused and in the books.
    pub doubled: usize,
    /// Other findings.
    pub wrong: usize,
    pub details: Vec<String>,
}

#[derive(FromRow)]
struct Row {
    request_id: Uuid,
    attacker: i32,
    victim: i32,
    id: i64,
    stolen: i32,
    attacker_after: i32,
    victim_after: i32,
    tokens_remaining: i32,
}

const ROWS: &str = r#"
    SELECT "requestId" AS request_id, "attackerId" AS attacker, "victimId" AS victim, "id" AS id,
        "pointsStolen" AS stolen, "attackerPointsAfter" AS attacker_after,
        "victimPointsAfter" AS victim_after, "attackerTokensAfter" AS tokens_remaining
    FROM "Heist"
    WHERE "id" > $1"#;

/// Compares the heists of a round with its answers, and has `heist check` look at everything.
pub async fn check(stage: &mut Stage, calls: &[Call]) -> anyhow::Result<Findings> {
    let url = stage.database.url();
    let mut connection = PgConnection::connect(&url).await?;
    let rows: Vec<Row> = sqlx::query_as(ROWS)
        .bind(stage.checked_up_to)
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    let last = rows.iter().map(|row| row.id).max();
    stage.checked_up_to = last.unwrap_or(stage.checked_up_to);

    let mut findings = Findings::default();
    let mut in_books: HashMap<Uuid, Vec<Row>> = HashMap::new();
    for row in rows {
        in_books.entry(row.request_id).or_default().push(row);
    }
    let mut answered = HashSet::new();
    for call in calls {
        for defect in &call.defects {
            findings.wrong += 1;
            findings
                .details
                .push(format!("{}: {defect}", call.request_id));
        }
        let Ok(heist) = &call.answer else {
            findings.wrong += 1;
            findings.details.push(format!("refused: {call:?}"));
            continue;
        };
        answered.insert(call.request_id);
        let found = in_books
            .get(&call.request_id)
            .map_or(&[][..], Vec::as_slice);
        if !found.iter().any(|row| row.is(call, heist)) {
            findings.lost += 1;
            findings.details.push(format!("lost: {call:?}"));
        }
    }
    for (request_id, rows) in in_books {
        let expected = usize::from(answered.contains(&request_id));
        if rows.len() > expected {
            findings.doubled += rows.len() - expected;
            let times = rows.len();
            (findings.details).push(format!("{request_id} is in the books {times} times"));
        }
    }

    let checked = heist("check", &url).output().await?;
    if !checked.status.success() {
        findings.wrong += 1;
        let said = String::from_utf8_lossy(&checked.stdout);
        findings.details.push(format!("heist check: {said}"));
    }
    Ok(findings)
}

impl Row {
    fn is(&self, call: &Call, heist: &Heist) -> bool {
        (self.attacker, self.victim) == (call.attacker, call.victim)
            && *heist
                == Heist {
                    id: self.id,
                    stolen: self.stolen,
                    attacker_after: self.attacker_after,
                    victim_after: self.victim_after,
                    tokens_remaining: self.tokens_remaining,
                }
    }
}
