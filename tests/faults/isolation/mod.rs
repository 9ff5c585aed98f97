//! Faults of one part, and what the other callers notice of them. Each fault runs with a control in
//! the same run, on a server of its own, and is measured against the bars of the design.

mod arena;
mod away;
mod bars;
mod connections;
mod load;
mod locks;
mod process;
mod raw;
mod schema;
mod signals;
mod tap;
mod twin;

use anyhow::Context as _;

pub use self::bars::Bars;
use self::{
    arena::Arena,
    tap::{Phase, Silence},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    SilentConnection(Phase, Silence),
    OldConnectionsSilent,
    SessionsEnded,
    RowsLocked,
    OnePlayerLocked,
    MarkReadOnLockedRows,
    BulkUpdate,
    PostgresAway,
    TerminatedWhileAway,
    ProxyCloses,
    ListenerSilent,
    SenderSilent,
    ColumnRetyped,
    LogPipeFull,
    ShortDeadlines,
    FirstBoard,
}

impl Fault {
    /// Every phase with every silence takes the long form.
    pub fn all(long: bool) -> Vec<Self> {
        use Phase::{Begin, Commit, Load, Lock, Save};
        use Silence::{Answers, Requests, Session};
        let mut faults = vec![
            Self::SilentConnection(Commit, Answers),
            Self::SilentConnection(Lock, Session),
        ];
        if long {
            faults.clear();
            for phase in [Begin, Lock, Load, Save, Commit] {
                for silence in [Session, Requests, Answers] {
                    faults.push(Self::SilentConnection(phase, silence));
                }
            }
        }
        faults.extend([
            Self::OldConnectionsSilent,
            Self::SessionsEnded,
            Self::RowsLocked,
            Self::OnePlayerLocked,
            Self::MarkReadOnLockedRows,
            Self::BulkUpdate,
            Self::PostgresAway,
            Self::TerminatedWhileAway,
            Self::ProxyCloses,
            Self::ListenerSilent,
            Self::SenderSilent,
            Self::ColumnRetyped,
            Self::LogPipeFull,
            Self::ShortDeadlines,
            Self::FirstBoard,
        ]);
        faults
    }

    pub fn name(self) -> String {
        match self {
            Self::SilentConnection(phase, silence) => {
                let phase = format!("{phase:?}").to_lowercase();
                let silence = match silence {
                    Silence::Session => "its session lost",
                    Silence::Requests => "its requests lost",
                    Silence::Answers => "its answers lost",
                };
                format!("isolation: one connection silent at {phase}, {silence}")
            }
            Self::OldConnectionsSilent => "isolation: all old connections silent".to_owned(),
            Self::SessionsEnded => "isolation: all sessions ended at once".to_owned(),
            Self::RowsLocked => "isolation: 4 players' rows locked".to_owned(),
            Self::OnePlayerLocked => "isolation: some calls to one locked player".to_owned(),
            Self::MarkReadOnLockedRows => {
                "isolation: MarkNotificationsRead on locked rows".to_owned()
            }
            Self::BulkUpdate => "isolation: the application updates all players".to_owned(),
            Self::PostgresAway => "isolation: PostgreSQL is gone".to_owned(),
            Self::TerminatedWhileAway => "isolation: SIGTERM while PostgreSQL is gone".to_owned(),
            Self::ProxyCloses => "isolation: a proxy accepts and closes".to_owned(),
            Self::ListenerSilent => {
                "isolation: a replica's listening connection is silent".to_owned()
            }
            Self::SenderSilent => {
                "isolation: a replica's notifying connection is silent".to_owned()
            }
            Self::ColumnRetyped => "isolation: the application retypes a column".to_owned(),
            Self::LogPipeFull => "isolation: the log pipe is not read".to_owned(),
            Self::ShortDeadlines => "isolation: deadlines of a few milliseconds".to_owned(),
            Self::FirstBoard => "isolation: first board with impatient callers".to_owned(),
        }
    }

    async fn play(self, arena: &mut Arena, bars: &mut Bars) -> anyhow::Result<()> {
        match self {
            Self::SilentConnection(phase, silence) => {
                connections::one_silent(arena, bars, phase, silence).await
            }
            Self::OldConnectionsSilent => connections::old_ones_silent(arena, bars).await,
            Self::SessionsEnded => connections::sessions_ended(arena, bars).await,
            Self::RowsLocked => locks::rows_locked(arena, bars).await,
            Self::OnePlayerLocked => locks::one_player_locked(arena, bars).await,
            Self::MarkReadOnLockedRows => locks::mark_read(arena, bars).await,
            Self::BulkUpdate => locks::bulk_update(arena, bars).await,
            Self::PostgresAway => away::postgres_gone(arena, bars).await,
            Self::TerminatedWhileAway => away::terminated(arena, bars).await,
            Self::ProxyCloses => away::proxy_closes(arena, bars).await,
            Self::ListenerSilent => signals::listener_silent(arena, bars).await,
            Self::SenderSilent => signals::sender_silent(arena, bars).await,
            Self::ColumnRetyped => schema::column_retyped(arena, bars).await,
            Self::LogPipeFull => process::log_pipe_full(arena, bars).await,
            Self::ShortDeadlines => process::short_deadlines(arena, bars).await,
            Self::FirstBoard => process::first_board(arena, bars).await,
        }
    }
}

/// Plays the faults one after the other. An error of one does not stop the others.
pub async fn run(faults: &[Fault], long: bool, bars: &mut Bars) -> anyhow::Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let mut arena = Arena::open(long).await.context("opening the arena")?;
    for fault in faults {
        let name = fault.name();
        if let Err(error) = fault.play(&mut arena, bars).await {
            bars.fail(&name, &format!("{error:#}"));
        }
        bars.finish(&name);
    }
    arena.close().await
}
