//! Triggers, policies and changed rows of the application interfere with our writes. An answer is
//! still the truth: the write has exactly the decided effect, or none.

use heist::{
    pb::{
        self,
        EmailPreference::{Digest, Never},
    },
    server::Server,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::AssertSqlSafe;
use tonic::Code;

use crate::{
    harness::{Answer, PATIENCE, Player, World, all_at_once, connect, snapshot},
    rpc::tokens::adjust_balance::adjustment,
};

/// A trigger of the application: its time, event and table, and the statements of its function.
struct Trigger {
    when: &'static str,
    table: &'static str,
    body: &'static str,
}

const TRIGGERS: [Trigger; 10] = [
    Trigger {
        when: "AFTER INSERT",
        table: "UserPointEvent",
        body: r#"UPDATE "User" SET "monthlyPoints" = "monthlyPoints" + abs(NEW."points") WHERE "id" = NEW."userId"; RETURN NULL"#,
    },
    Trigger {
        when: "BEFORE UPDATE",
        table: "User",
        body: r#"NEW."monthlyPoints" := least(NEW."monthlyPoints", 40); RETURN NEW"#,
    },
    Trigger {
        when: "BEFORE INSERT",
        table: "UserPointEvent",
        body: "RETURN NULL",
    },
    Trigger {
        when: "BEFORE INSERT",
        table: "UserPointEvent",
        body: r#"NEW."points" := NEW."points" * 2; RETURN NEW"#,
    },
    Trigger {
        when: "AFTER INSERT",
        table: "UserPointEvent",
        body: r#"UPDATE "UserPointEvent" SET "points" = 0 WHERE "id" = NEW."id"; RETURN NULL"#,
    },
    Trigger {
        when: "BEFORE UPDATE",
        table: "HeistToken",
        body: "RETURN NULL",
    },
    Trigger {
        when: "BEFORE INSERT",
        table: "Heist",
        body: "RETURN NULL",
    },
    Trigger {
        when: "AFTER INSERT",
        table: "Heist",
        body: r#"DELETE FROM "HeistNotification" WHERE "ledgerId" = NEW."id"; RETURN NULL"#,
    },
    Trigger {
        when: "BEFORE INSERT",
        table: "HeistNotification",
        body: r#"NEW."after" := 0; RETURN NEW"#,
    },
    Trigger {
        when: "AFTER UPDATE",
        table: "User",
        body: r#"IF pg_trigger_depth() < 2 THEN UPDATE "User" SET "monthlyPoints" = "monthlyPoints" + 1 WHERE "id" = NEW."id"; END IF; RETURN NULL"#,
    },
];

impl Trigger {
    /// Creates the trigger. It fires only if `condition` holds.
    async fn create(&self, world: &World, condition: &str) {
        let Self { when, table, body } = self;
        let returns = if when.starts_with("BEFORE") {
            "RETURN NEW"
        } else {
            "RETURN NULL"
        };
        run(
            world,
            &format!(
                r#"CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN IF {condition} THEN {body}; END IF; {returns}; END $$;
                CREATE TRIGGER interfere {when} ON "{table}"
                FOR EACH ROW EXECUTE FUNCTION interfere()"#
            ),
        )
        .await;
    }

    /// Like [`Trigger::create`], but the trigger fires at the commit.
    async fn create_deferred(&self, world: &World) {
        self.create(world, "true").await;
        let Self { when, table, .. } = self;
        run(
            world,
            &format!(
                r#"DROP TRIGGER interfere ON "{table}";
                CREATE CONSTRAINT TRIGGER interfere {when} ON "{table}"
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION interfere()"#
            ),
        )
        .await;
    }
}

async fn drop_trigger(world: &World) {
    run(world, "DROP FUNCTION interfere() CASCADE").await;
}

async fn run(world: &World, script: &str) {
    sqlx::raw_sql(AssertSqlSafe(script.to_owned()))
        .execute(&world.pool)
        .await
        .unwrap();
}

/// A heist fails, and has no effect.
async fn fails_without_effect(world: &World, ada: &Player, ben: &Player, what: &str) {
    let before = snapshot(&world.pool).await;
    let refused = ada.robs(ben).await.expect_err(what);
    assert_eq!(refused.code(), Code::Internal, "{what}");
    assert!(!refused.message().contains("User"), "{what}: {refused}");
    assert_eq!(snapshot(&world.pool).await, before, "{what}");
}

#[test]
fn a_heist_that_a_trigger_changes_has_no_effect() {
    World::setup()
        .rules(|rules| rules.cooldown = std::time::Duration::ZERO)
        .run(async |world| {
            let ada = world.player("Ada").tokens(30).await;
            let ben = world.player("Ben").points(2000).await;
            for trigger in &TRIGGERS {
                let what = format!("{} {}: {}", trigger.when, trigger.table, trigger.body);
                trigger.create(world, "true").await;
                fails_without_effect(world, &ada, &ben, &what).await;
                drop_trigger(world).await;
                if trigger.when.starts_with("AFTER") {
                    trigger.create_deferred(world).await;
                    fails_without_effect(world, &ada, &ben, &what).await;
                    drop_trigger(world).await;
                }
            }
            ada.robs(&ben).await.unwrap();
        });
}

#[test]
fn event_types_that_are_missing_renamed_or_ambiguous_stop_heists() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        for (damage, repair) in [
            (
                r#"UPDATE "PointEventTypeMaster" SET "name" = 'gain' WHERE "name" = 'HEIST_GAIN'"#,
                r#"UPDATE "PointEventTypeMaster" SET "name" = 'HEIST_GAIN' WHERE "name" = 'gain'"#,
            ),
            (
                r#"DELETE FROM "PointEventTypeMaster" WHERE "name" = 'HEIST_LOSS'"#,
                r#"INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('HEIST_LOSS', 'Lost')"#,
            ),
            (
                r#"DROP INDEX "PointEventTypeMaster_name_key";
                INSERT INTO "PointEventTypeMaster" ("id", "name", "description") VALUES (99, 'HEIST_GAIN', 'again')"#,
                r#"DELETE FROM "PointEventTypeMaster" WHERE "id" = 99;
                CREATE UNIQUE INDEX "PointEventTypeMaster_name_key" ON "PointEventTypeMaster" ("name")"#,
            ),
        ] {
            run(world, damage).await;
            fails_without_effect(world, &ada, &ben, damage).await;
            run(world, repair).await;
        }
        ada.robs(&ben).await.unwrap();
    });
}

#[test]
fn awards_and_adjustments_that_a_trigger_changes_have_no_effect() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let friend = world.player("Friend").await;
        for (table, body) in [
            ("HeistToken", "RETURN NULL"),
            (
                "HeistToken",
                r#"NEW."balance" := NEW."balance" + 1; NEW."totalEarned" := NEW."totalEarned" + 1; RETURN NEW"#,
            ),
        ] {
            let trigger = Trigger {
                when: "BEFORE INSERT OR UPDATE",
                table,
                body,
            };
            trigger.create(world, "true").await;
            let before = snapshot(&world.pool).await;
            let award = ada.earns_a_token_for(&friend).await.unwrap_err();
            let grant = world.adjust_balance(adjustment(&ada, 3)).await.unwrap_err();
            assert_eq!(
                (award.code(), grant.code()),
                (Code::Internal, Code::Internal)
            );
            assert_eq!(snapshot(&world.pool).await, before);
            drop_trigger(world).await;
        }
    });
}

/// With the trigger, a call fails and has no effect. A trigger that fires after the statement is tried
/// deferred, too.
async fn has_no_effect<T: std::fmt::Debug, F: Future<Output = Answer<T>>>(
    world: &World,
    trigger: &Trigger,
    call: impl Fn() -> F,
) {
    let before = snapshot(&world.pool).await;
    for is_deferred in [false, true] {
        match (is_deferred, trigger.when.starts_with("BEFORE")) {
            (false, _) => trigger.create(world, "true").await,
            (true, false) => trigger.create_deferred(world).await,
            (true, true) => continue,
        }
        let refused = call().await.expect_err(trigger.body);
        assert_eq!(refused.code(), Code::Internal, "{}", trigger.body);
        assert_eq!(snapshot(&world.pool).await, before, "{}", trigger.body);
        drop_trigger(world).await;
    }
}

#[test]
fn a_mark_that_a_trigger_changes_has_no_effect() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        let request = pb::MarkNotificationsReadRequest {
            user_id: ben.id,
            up_to_id: i64::MAX,
            ..Default::default()
        };
        let mark = || world.mark_notifications_read(request.clone());
        for (when, body) in [
            ("BEFORE UPDATE", r#"NEW."read" := false; RETURN NEW"#),
            ("BEFORE UPDATE", "RETURN NULL"),
            (
                "AFTER UPDATE",
                r#"UPDATE "HeistNotification" SET "read" = false WHERE "id" = NEW."id" AND "read"; RETURN NULL"#,
            ),
        ] {
            let table = "HeistNotification";
            has_no_effect(world, &Trigger { when, table, body }, mark).await;
        }
        assert_eq!(mark().await.unwrap().marked_count, 1);
    });
}

#[test]
fn a_preference_that_a_trigger_changes_has_no_effect() {
    World::run(async |world| {
        let ben = world.player("Ben").await;
        world.update_preferences(ben.id, Digest).await.unwrap();
        let prefer = || world.update_preferences(ben.id, Never);
        for (when, body) in [
            ("BEFORE INSERT OR UPDATE", "RETURN NULL"),
            ("BEFORE UPDATE", r#"NEW."email" := 'IMMEDIATE'; RETURN NEW"#),
            (
                "AFTER UPDATE",
                r#"UPDATE "HeistNotificationPreference" SET "email" = 'DIGEST' WHERE "userId" = NEW."userId" AND "email" <> 'DIGEST'; RETURN NULL"#,
            ),
        ] {
            let table = "HeistNotificationPreference";
            has_no_effect(world, &Trigger { when, table, body }, prefer).await;
        }
        assert_eq!(prefer().await.unwrap(), Never);
    });
}

#[test]
fn one_player_with_a_trigger_fails_alone() {
    World::run(async |world| {
        let victims = world.crowd("Victim", 16).points(1000).await;
        let robbers = world.crowd("Robber", 16).tokens(1).await;
        let odd = victims[5].id;
        let condition = format!(r#"NEW."id" = {odd}"#);
        TRIGGERS[1].create(world, &condition).await;
        let calls: Vec<_> = (robbers.iter().zip(&victims))
            .map(|(robber, victim)| robber.robs(victim))
            .collect();
        for (answer, victim) in all_at_once(calls).await.into_iter().zip(&victims) {
            assert_eq!(answer.is_err(), victim.id == odd, "{answer:?}");
        }
        drop_trigger(world).await;
    });
}

#[test]
fn row_level_security_cannot_make_a_heist_free() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let role = format!("limited_{}", std::process::id());
        run(
            world,
            &format!(
                r#"CREATE ROLE {role} LOGIN;
                GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
                GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
                ALTER TABLE "HeistToken" ENABLE ROW LEVEL SECURITY;
                CREATE POLICY visible ON "HeistToken" FOR SELECT USING (true);
                CREATE POLICY additions ON "HeistToken" FOR INSERT WITH CHECK (true);
                CREATE POLICY nothing ON "HeistToken" FOR UPDATE USING (false)"#
            ),
        )
        .await;
        let mut options = world.options();
        let url = world.own_url().replace("postgres@", &format!("{role}@"));
        options.database = heist::store::pool::DatabaseUrl::parse(&url).unwrap();
        let limited = Server::start(options).await.unwrap();
        let there = world.through(connect(limited.address()).await);

        fails_without_effect(&there, &ada.seen_by(&there), &ben, "row-level security").await;

        limited.stop(PATIENCE).await;
        run(
            world,
            &format!(
                r#"DROP POLICY nothing ON "HeistToken"; DROP POLICY visible ON "HeistToken"; DROP POLICY additions ON "HeistToken";
                ALTER TABLE "HeistToken" DISABLE ROW LEVEL SECURITY;
                DROP OWNED BY {role}; DROP ROLE {role}"#
            ),
        )
        .await;
    });
}

/// `HEIST_INTERFERENCE_ROUNDS=1000 cargo test --test it whatever_interferes` tries more.
#[test]
fn no_answer_differs_from_the_tables_whatever_interferes() {
    let rounds = std::env::var("HEIST_INTERFERENCE_ROUNDS");
    let rounds = rounds.map_or(25, |rounds| rounds.parse().unwrap());
    World::setup()
        .rules(|rules| {
            rules.cooldown = std::time::Duration::ZERO;
            rules.protection = None;
        })
        .run(async |world| {
            let seed = rand::random();
            println!("seed {seed}");
            let mut random = StdRng::seed_from_u64(seed);
            let players = world.crowd("Player", 12).points(1000).tokens(200).await;
            let mut executed = 0;
            for _ in 0..rounds {
                let trigger = &TRIGGERS[random.random_range(0..TRIGGERS.len())];
                let percentage = random.random_range(0..30);
                let condition = format!("random() * 100 < {percentage}");
                trigger.create(world, &condition).await;
                let calls: Vec<_> = (0..16)
                    .map(|_| {
                        let attacker = random.random_range(0..players.len());
                        let distance = random.random_range(1..players.len());
                        players[attacker].robs(&players[(attacker + distance) % players.len()])
                    })
                    .collect();
                let answers = all_at_once(calls).await;
                drop_trigger(world).await;
                for answer in answers.into_iter().flatten() {
                    let told = answer.heist.unwrap();
                    let request = pb::GetHeistRequest { heist_id: told.id };
                    let kept = world.heists.clone().get_heist(request).await.unwrap();
                    assert_eq!(kept.into_inner().heist.unwrap(), told, "seed {seed}");
                    executed += 1;
                }
            }
            assert_eq!(world.count_heists().await, executed, "seed {seed}");
        });
    // The audit after the test compares points, tokens, events and notifications with the heists.
}
