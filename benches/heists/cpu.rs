//! Processor time from `/proc/PID/stat` and memory from `/proc/PID/status`. All figures are `None`
//! on a system without `/proc`.

use std::{
    fs,
    time::{Duration, Instant},
};

/// `USER_HZ`: Linux reports the time of processes in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The process ids to measure.
#[derive(Clone, Copy, Default)]
pub struct Watched {
    pub server: Option<u32>,
    pub postmaster: Option<u32>,
    pub load: Option<u32>,
}

/// The number of cores that each kept busy; `None` where unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cores {
    pub server: Option<f64>,
    pub postgres: Option<f64>,
    pub load: Option<f64>,
    /// All other processes and the kernel's threads.
    pub other: Option<f64>,
}

/// Measures from its start.
pub struct Meter {
    watched: Watched,
    begun: Instant,
    before: Spent,
}

#[derive(Clone, Copy)]
struct Spent {
    server: Option<Duration>,
    postgres: Option<Duration>,
    load: Option<Duration>,
    machine: Option<Duration>,
}

impl Meter {
    pub fn start(watched: Watched) -> Self {
        Self {
            watched,
            begun: Instant::now(),
            before: Spent::by(watched),
        }
    }

    pub fn stop(self) -> Cores {
        let after = Spent::by(self.watched);
        let elapsed_s = self.begun.elapsed().as_secs_f64();
        let cores = |before: Option<Duration>, after: Option<Duration>| {
            Some(after?.saturating_sub(before?).as_secs_f64() / elapsed_s)
        };
        let [server, postgres, load, machine] = [
            cores(self.before.server, after.server),
            cores(self.before.postgres, after.postgres),
            cores(self.before.load, after.load),
            cores(self.before.machine, after.machine),
        ];
        let ours = [server, postgres, load].into_iter().flatten().sum::<f64>();
        Cores {
            server,
            postgres,
            load,
            other: machine.map(|machine| (machine - ours).max(0.0)),
        }
    }
}

impl Spent {
    fn by(watched: Watched) -> Self {
        let alone = |pid: u32| Some(Stat::of(pid)?.own);
        Self {
            server: watched.server.and_then(alone),
            postgres: watched.postmaster.and_then(with_children),
            load: watched.load.and_then(with_reaped),
            machine: machine(),
        }
    }
}

/// All processes and the kernel, since the machine was started.
fn machine() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Option<Vec<u32>> = (text.lines().next()?.split_whitespace().skip(1))
        .map(|word| word.parse().ok())
        .collect();
    // user, nice, system, (idle, waiting for disks,) interrupts in two kinds.
    let [user, nice, system, _, _, hard, soft, ..] = ticks?[..] else {
        return None;
    };
    Some(TICK * user + TICK * nice + TICK * system + TICK * hard + TICK * soft)
}

/// A process with its children that ended.
fn with_reaped(pid: u32) -> Option<Duration> {
    let stat = Stat::of(pid)?;
    Some(stat.own + stat.reaped)
}

/// The postmaster with its children, those that ended included.
fn with_children(parent: u32) -> Option<Duration> {
    let stat = Stat::of(parent)?;
    let children = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .filter(|child| child.parent == parent)
        .map(|child| child.own);
    Some(stat.own + stat.reaped + children.sum::<Duration>())
}

/// The lines of `/proc/PID/stat` that matter here.
struct Stat {
    parent: u32,
    own: Duration,
    reaped: Duration,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, the second field, is in parentheses and may hold anything.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |place: usize| -> Option<u32> { fields.get(place - 3)?.parse().ok() };
        Some(Self {
            parent: number(4)?,
            own: TICK * (number(14)? + number(15)?),
            reaped: TICK * (number(16)? + number(17)?),
        })
    }
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now_mib: f64,
    pub peak_mib: f64,
}

impl Memory {
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mib = |name: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib / 1024.0)
        };
        Some(Self {
            now_mib: mib("VmRSS:")?,
            peak_mib: mib("VmHWM:")?,
        })
    }
}
