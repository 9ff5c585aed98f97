//! The order of all changes, as the database made them.
//!
//! Triggers of these tests record every change in its own transaction, with a number of the ledger's
//! sequence. Heists, awards and adjustments have such a number as their id. Deletions and the marking
//! of notifications draw one here. Each number is drawn while the rows of its players are locked, so
//! that for each player the numbers grow in commit order, and between the call and its answer.

use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::sequential::NoteIds;

const TRIGGERS: &str = r#"
CREATE TABLE test.ledger (
    id bigint PRIMARY KEY, kind text NOT NULL, first integer, second integer, request_id uuid);
CREATE TABLE test.note (user_id integer, ledger_id bigint, id bigint);

CREATE FUNCTION test.heist() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test.ledger VALUES (NEW."id", 'heist', NEW."attackerId", NEW."victimId", NEW."requestId");
    RETURN NULL; END $$;
CREATE TRIGGER test_heist AFTER INSERT ON "Heist" FOR EACH ROW EXECUTE FUNCTION test.heist();

CREATE FUNCTION test.award() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test.ledger VALUES (NEW."id", 'award', NEW."referrerId", NEW."referredId", NULL);
    RETURN NULL; END $$;
CREATE TRIGGER test_award AFTER INSERT ON "HeistTokenAward" FOR EACH ROW EXECUTE FUNCTION test.award();

CREATE FUNCTION test.adjustment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test.ledger VALUES (NEW."id", 'adjustment', NEW."userId", NEW."delta", NEW."requestId");
    RETURN NULL; END $$;
CREATE TRIGGER test_adjustment AFTER INSERT ON "HeistTokenAdjustment" FOR EACH ROW EXECUTE FUNCTION test.adjustment();

CREATE FUNCTION test.mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test.ledger
    SELECT nextval('"HeistLedger_id_seq"'), 'mark', marked."userId", NULL, NULL
    FROM marked GROUP BY marked."userId";
    RETURN NULL; END $$;
CREATE TRIGGER test_mark AFTER UPDATE ON "HeistNotification" REFERENCING NEW TABLE AS marked
    FOR EACH STATEMENT EXECUTE FUNCTION test.mark();

CREATE FUNCTION test.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test.note VALUES (NEW."userId", NEW."ledgerId", NEW."id");
    RETURN NULL; END $$;
CREATE TRIGGER test_note AFTER INSERT ON "HeistNotification" FOR EACH ROW EXECUTE FUNCTION test.note();

-- Named so that it comes after the triggers of foreign keys, which touch other players.
CREATE FUNCTION test.deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test.ledger VALUES (nextval('"HeistLedger_id_seq"'), 'deletion', OLD."id", NULL, NULL);
    RETURN NULL; END $$;
CREATE TRIGGER test_zz_deletion AFTER DELETE ON "User" FOR EACH ROW EXECUTE FUNCTION test.deletion();
"#;

/// A change of the books.
#[derive(Clone, Debug, FromRow)]
pub struct Change {
    pub id: i64,
    /// `heist`, `award`, `adjustment`, `mark` or `deletion`.
    pub kind: String,
    pub first: Option<i32>,
    pub second: Option<i32>,
    pub request_id: Option<Uuid>,
}

/// Writes down every change from now on.
pub async fn record(pool: &PgPool) {
    sqlx::raw_sql(TRIGGERS).execute(pool).await.unwrap();
}

/// All changes, in their order.
pub async fn changes(pool: &PgPool) -> Vec<Change> {
    sqlx::query_as("SELECT id, kind, first, second, request_id FROM test.ledger ORDER BY id")
        .fetch_all(pool)
        .await
        .unwrap()
}

/// The ids of notifications, by player and ledger id.
pub async fn note_ids(pool: &PgPool) -> NoteIds {
    let rows: Vec<(i32, i64, i64)> = sqlx::query_as("SELECT user_id, ledger_id, id FROM test.note")
        .fetch_all(pool)
        .await
        .unwrap();
    (rows.into_iter())
        .map(|(user, ledger_id, id)| ((user, ledger_id), id))
        .collect()
}
