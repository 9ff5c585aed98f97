//! Opening a connection, and what its session is set to.

use std::{io, time::Duration};

use sqlx::{
    Connection as _, Executor as _, PgConnection, PgExecutor, postgres::PgConnectOptions,
    query_scalar,
};
use tokio::time::timeout;

/// How long logging in and setting up the session may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// What the sessions of a server are set to. A pooler between us and the database hands sessions
/// to other clients, so there the same settings are made in each transaction.
///
/// - `lock_timeout` and `statement_timeout` bound how long one held lock or slow statement keeps
///   the locks of a transaction. The lock wait ends well below PostgreSQL's default
///   `deadlock_timeout` of 1 s: the deadlock detector never runs because of us.
/// - `idle_in_transaction_session_timeout` frees the players of a connection that went silent.
/// - `plan_cache_mode`: left to itself PostgreSQL would plan the larger statements anew for each
///   call, because a plan for the arrays at hand looks cheaper than it is. It finds rows by the
///   same indexes, and planning takes longer than running it.
/// - `jit`: compiling a statement takes longer than any statement of ours runs.
const SESSION: &str = "SET lock_timeout = '500ms'; \
     SET statement_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '5s'; \
     SET plan_cache_mode = force_generic_plan; \
     SET jit = off";

/// The isolation level is spelled out, because a later statement must see what was committed
/// before it, whatever the database's default is. `READ WRITE` fails at once on a server that has
/// become a standby. A statement of a transaction may take less time than a read, because it holds
/// locks.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL statement_timeout = '3s'";
/// In a session that is not set up.
pub(super) const BEGIN_AND_SET: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '500ms'; \
     SET LOCAL statement_timeout = '3s'; \
     SET LOCAL idle_in_transaction_session_timeout = '5s'; \
     SET LOCAL plan_cache_mode = force_generic_plan; \
     SET LOCAL jit = off";
/// For a command line, which moves more rows at a time.
const BEGIN_COMMAND: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '500ms'; \
     SET LOCAL statement_timeout = '10s'; \
     SET LOCAL idle_in_transaction_session_timeout = '10s'; \
     SET LOCAL plan_cache_mode = force_generic_plan";

/// What a pool's connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The calls of a server.
    Serving,
    /// The same, on a server that takes writes. During a failover an address may lead to the next
    /// primary before it has been promoted: a connection made then would be read-only for as long
    /// as the pool keeps it, and look healthy.
    ServingWrites,
    /// A command line, whose statements may take as long as they need.
    Command,
}

/// An open connection, and how its transactions begin.
pub(super) struct Opened {
    pub(super) connection: PgConnection,
    pub(super) begin: &'static str,
}

/// Opens a connection. Every error is one of `Io`, whatever the driver calls it: the database is
/// not there for us. The exception is a refusal because too many connections are open.
pub(super) async fn open(options: &PgConnectOptions, purpose: Purpose) -> sqlx::Result<Opened> {
    let opening = async {
        let mut connection = PgConnection::connect_with(options).await?;
        if purpose == Purpose::ServingWrites {
            let is_standby: bool = query_scalar("SELECT pg_is_in_recovery()")
                .fetch_one(&mut connection)
                .await?;
            if is_standby {
                let why = "the server is a standby that has not been promoted";
                return Err(io::Error::other(why).into());
            }
        }
        let begin = if purpose == Purpose::Command {
            BEGIN_COMMAND
        } else if is_pooled(&mut connection).await? {
            BEGIN_AND_SET
        } else {
            connection.execute(SESSION).await?;
            BEGIN
        };
        Ok(Opened { connection, begin })
    };
    match timeout(CONNECT_LIMIT, opening).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error @ sqlx::Error::Io(_))) => Err(error),
        Ok(Err(error)) if is_too_many_connections(&error) => Err(error),
        Ok(Err(error)) => Err(io::Error::other(error).into()),
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// SQLSTATE class "insufficient resources": the database is there, and has no place for one more.
pub(super) fn is_too_many_connections(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("53"))
}

/// Whether a pooler is between us and the database: it logs in with parameters of its own, and
/// sets later what we logged in with.
pub(in crate::store) async fn is_pooled(connection: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    // sqlx sends all three.
    query_scalar(
        "SELECT bool_or(source <> 'client') FROM pg_settings
        WHERE name IN ('application_name', 'DateStyle', 'TimeZone')",
    )
    .fetch_one(connection)
    .await
}
