//! Single statements on any connection of the pool.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
    query_with,
};
use tokio_stream::{Stream, StreamExt as _};

use super::{PgPool, lease::Lease};
use crate::store::error::is_stale_plan;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;
type Step = Either<PgQueryResult, PgRow>;

impl fmt::Debug for PgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPool").finish_non_exhaustive()
    }
}

/// A statement that can be sent more than once.
struct Statement {
    sql: SqlStr,
    /// `None`: sent without being prepared.
    arguments: Option<PgArguments>,
    is_persistent: bool,
}

impl Statement {
    fn of<'q>(mut query: impl Execute<'q, Postgres>) -> sqlx::Result<Self> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        Ok(Self {
            arguments,
            is_persistent: query.persistent(),
            sql: query.sql(),
        })
    }

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<Step>> {
        let mut steps = match &self.arguments {
            None => connection.fetch_many(self.sql.clone()),
            Some(arguments) => {
                let query = query_with::<Postgres, _>(self.sql.clone(), arguments.clone());
                connection.fetch_many(query.persistent(self.is_persistent))
            }
        };
        let mut collected = Vec::new();
        while let Some(step) = steps.next().await {
            collected.push(step?);
        }
        Ok(collected)
    }
}

impl PgPool {
    /// Runs one statement, up to the pool's time limit for statements. A statement with a stale
    /// plan was not executed, so it is run once more, on a connection without that plan.
    async fn run(&self, statement: Statement) -> sqlx::Result<Vec<Step>> {
        let mut is_repeated = false;
        loop {
            let mut lease = self.acquire().await?;
            let result = Lease::limited(self.statement_limit(), statement.run(&mut lease)).await;
            lease.give_back_after(&result);
            match result {
                Err(error) if !is_repeated && is_stale_plan(&error) => is_repeated = true,
                result => return result,
            }
        }
    }
}

impl<'c> Executor<'c> for &'c PgPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Step>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::of(query);
        let steps = async move { self.run(statement?).await };
        Box::pin(Steps::Awaited(Box::pin(steps)))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::of(query);
        Box::pin(async move {
            let steps = self.run(statement?).await?;
            Ok(steps.into_iter().find_map(Either::right))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lease = self.acquire().await?;
            let prepared = lease.prepare_with(sql, parameters);
            let prepared = Lease::limited(self.statement_limit(), prepared).await;
            lease.give_back_after(&prepared);
            prepared
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lease = self.acquire().await?;
            let described = Lease::limited(self.statement_limit(), lease.describe(sql)).await;
            lease.give_back_after(&described);
            described
        })
    }
}

/// The rows of a statement, which are available when it has ended.
enum Steps<'a> {
    Awaited(BoxFuture<'a, sqlx::Result<Vec<Step>>>),
    There(vec::IntoIter<Step>),
}

impl Stream for Steps<'_> {
    type Item = sqlx::Result<Step>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Self::Awaited(steps) = &mut *self {
            match ready!(steps.as_mut().poll(context)) {
                Ok(steps) => *self = Self::There(steps.into_iter()),
                Err(error) => {
                    *self = Self::There(Vec::new().into_iter());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        match &mut *self {
            Self::There(steps) => Poll::Ready(steps.next().map(Ok)),
            Self::Awaited(_) => unreachable!("awaited above"),
        }
    }
}
