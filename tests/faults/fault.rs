//! What goes wrong, and how it is put right again.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::{
    database::Setting,
    proxy::{Line, Proxy},
    stage::{SETTINGS, Stage},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ServerKilled,
    ServerTerminated,
    PostgresKilled,
    PostgresRestarted,
    PostgresStopped,
    SessionsEnded,
    NetworkCut,
    NetworkSilent,
    Failover,
    PatroniFailover,
    PatroniFrozen,
    EtcdFrozen,
    SettingsGarbled,
    PgBouncerKilled,
}

impl Fault {
    pub const ALL: [Self; 14] = [
        Self::ServerKilled,
        Self::ServerTerminated,
        Self::PostgresKilled,
        Self::PostgresRestarted,
        Self::PostgresStopped,
        Self::SessionsEnded,
        Self::NetworkCut,
        Self::NetworkSilent,
        Self::Failover,
        Self::PatroniFailover,
        Self::PatroniFrozen,
        Self::EtcdFrozen,
        Self::SettingsGarbled,
        Self::PgBouncerKilled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::ServerKilled => "server: SIGKILL, started again",
            Self::ServerTerminated => "server: SIGTERM, started again",
            Self::PostgresKilled => "postgres: SIGKILL, started again",
            Self::PostgresRestarted => "postgres: fast restart",
            Self::PostgresStopped => "postgres: every process SIGSTOP for 3 s",
            Self::SessionsEnded => "postgres: all sessions ended, 10 times in 1 s",
            Self::NetworkCut => "network: cut for 3 s",
            Self::NetworkSilent => "network: passes nothing on for 3 s",
            Self::Failover => "failover: primary SIGKILL, standby promoted",
            Self::PatroniFailover => "failover: Patroni, primary's PostgreSQL and Patroni SIGKILL",
            Self::PatroniFrozen => {
                "failover: Patroni, primary's Patroni SIGSTOP, its PostgreSQL alive"
            }
            Self::EtcdFrozen => "etcd: SIGSTOP until Patroni gives up the primary",
            Self::SettingsGarbled => "settings file: garbage for 3 s",
            Self::PgBouncerKilled => "pgbouncer: SIGKILL, started again",
        }
    }

    pub fn fits(self, setting: &Setting) -> bool {
        match self {
            Self::PatroniFailover | Self::PatroniFrozen | Self::EtcdFrozen => {
                matches!(setting, Setting::Elsewhere(_))
            }
            Self::PgBouncerKilled => matches!(setting, Setting::Ours { pgbouncer: Some(_) }),
            _ => matches!(setting, Setting::Ours { .. }),
        }
    }

    /// What takes time and breaks nothing.
    pub async fn prepare(self, stage: &mut Stage) -> anyhow::Result<()> {
        match self {
            Self::Failover => stage.database.ours()?.start_standby().await,
            Self::PatroniFailover | Self::PatroniFrozen | Self::EtcdFrozen => {
                stage.database.cluster()?.run("prepare").await
            }
            _ => Ok(()),
        }
    }

    /// Returns when everything is in place again, which does not mean that it works.
    pub async fn inject(self, stage: &mut Stage) -> anyhow::Result<()> {
        match self {
            Self::ServerKilled => {
                stage.server.signal("KILL").await?;
                stage.server.ended().await?;
                stage.start_server().await?;
            }
            Self::ServerTerminated => {
                stage.server.signal("TERM").await?;
                let status = stage.server.ended().await?;
                ensure!(status.success(), "SIGTERM ended the server with {status}");
                stage.start_server().await?;
            }
            Self::PostgresKilled => {
                let primary = &mut stage.database.ours()?.primary;
                primary.kill().await?;
                primary.start_again().await?;
            }
            Self::PostgresRestarted => stage.database.ours()?.primary.restart().await?,
            Self::PostgresStopped => {
                let primary = &stage.database.ours()?.primary;
                primary.signal_all("STOP").await?;
                sleep(Duration::from_secs(3)).await;
                primary.signal_all("CONT").await?;
            }
            Self::SessionsEnded => {
                for _ in 0..10 {
                    stage.database.ours()?.end_sessions().await?;
                    sleep(Duration::from_millis(100)).await;
                }
            }
            Self::NetworkCut => break_line(&stage.database.ours()?.proxy, Line::Cut).await,
            Self::NetworkSilent => break_line(&stage.database.ours()?.proxy, Line::Silent).await,
            Self::Failover => stage.database.ours()?.fail_over().await?,
            Self::PatroniFailover => stage.database.cluster()?.run("kill_primary").await?,
            Self::PatroniFrozen => stage.database.cluster()?.run("freeze_patroni").await?,
            Self::EtcdFrozen => stage.database.cluster()?.run("freeze_etcd").await?,
            Self::SettingsGarbled => {
                stage
                    .write_settings("HEIST_COOLDOWN=24h\nHEIST_COOLDOWN\u{0}=24 bananas\n")
                    .await?;
                sleep(Duration::from_secs(3)).await;
                stage.write_settings(SETTINGS).await?;
            }
            Self::PgBouncerKilled => stage.database.ours()?.restart_pgbouncer().await?,
        }
        Ok(())
    }
}

async fn break_line(proxy: &Proxy, line: Line) {
    proxy.set(line);
    sleep(Duration::from_secs(3)).await;
    proxy.set(Line::Open);
}
