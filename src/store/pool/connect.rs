//! Opens connections, and sets up their sessions.

use std::{io, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgExecutor, query_scalar,
};
use tokio::time::timeout;

use super::url::ConnectOptions;

/// The time limit for logging in and setting up the session.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The settings of a server's sessions. A pooler hands sessions to other clients, so behind a
/// pooler each transaction makes the same settings ([`BEGIN_AND_SET`]).
///
/// - `lock_timeout` and `statement_timeout` bound how long one held lock or slow statement keeps
///   the locks of a transaction. The lock wait ends well below PostgreSQL's default
///   `deadlock_timeout` of 1 s, so the service's waits never start the deadlock detector.
/// - `idle_in_transaction_session_timeout` releases the row locks of a connection that went silent.
/// - `plan_cache_mode`: by default PostgreSQL would plan the larger statements for each call,
///   because a plan for the given arrays looks cheaper than it is. Such a plan uses the same
///   indexes, and planning takes longer than running it.
/// - `jit`: compiling a statement takes longer than running any statement of the service.
const SESSION: &str = "SET lock_timeout = '500ms'; \
     SET statement_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '5s'; \
     SET plan_cache_mode = force_generic_plan; \
     SET jit = off";

/// The isolation level is explicit, because each statement must see all earlier commits, whatever
/// the database's default is. `READ WRITE` fails at once on a server that has become a standby. A
/// statement of a transaction gets 3 s and not 10 s, because the transaction holds locks.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL statement_timeout = '3s'";
/// Begins a transaction in a session that is not set up.
pub(super) const BEGIN_AND_SET: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '500ms'; \
     SET LOCAL statement_timeout = '3s'; \
     SET LOCAL idle_in_transaction_session_timeout = '5s'; \
     SET LOCAL plan_cache_mode = force_generic_plan; \
     SET LOCAL jit = off";
/// Begins a transaction of a command, which moves more rows at a time.
const BEGIN_COMMAND: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '500ms'; \
     SET LOCAL statement_timeout = '10s'; \
     SET LOCAL idle_in_transaction_session_timeout = '10s'; \
     SET LOCAL plan_cache_mode = force_generic_plan";

/// The purpose of a pool's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The calls of a server.
    Serving,
    /// The calls of a server, on a primary. During a failover an address may lead to the next
    /// primary before its promotion. A connection that was opened then would be read-only for as
    /// long as the pool keeps it, and look healthy.
    ServingWrites,
    /// A command line. Its statements may take up to a day, and in a transaction 10 s.
    Command,
}

/// An open connection, and how its transactions begin.
pub(super) struct Opened {
    pub(super) connection: PgConnection,
    pub(super) begin: &'static str,
}

/// Opens a connection. Returns every error of the driver as `Io`, because the database cannot be
/// used. The exception is a refusal because too many connections are open.
pub(super) async fn open(options: &ConnectOptions, purpose: Purpose) -> sqlx::Result<Opened> {
    let opening = async {
        let mut options = options.newest().application_name("heist");
        if purpose == Purpose::Command {
            // Slow statements of a command need no warning.
            options = options.disable_statement_logging();
        }
        let mut connection = PgConnection::connect_with(&options).await?;
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

/// SQLSTATE class "insufficient resources": the database answers, and accepts no further
/// connection.
pub(super) fn is_too_many_connections(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("53"))
}

/// Whether a pooler is between the service and the database. A pooler logs in with parameters of
/// its own, and sets the service's parameters later. Their source is then not `client`.
pub(in crate::store) async fn is_pooled(connection: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    // sqlx sends all three parameters when it logs in.
    query_scalar(
        "SELECT bool_or(source <> 'client') FROM pg_settings
        WHERE name IN ('application_name', 'DateStyle', 'TimeZone')",
    )
    .fetch_one(connection)
    .await
}
