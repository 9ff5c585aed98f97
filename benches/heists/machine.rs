//! The machine and its settings, printed above the table.

use std::fs;

use crate::postgres::Postgres;

pub async fn describe(
    postgres: &Postgres,
    variables: &[(String, String)],
) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = first_value("/proc/cpuinfo", "model name").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let commit_ms = postgres.commit_ms().await?;
    let mut lines = vec![
        format!("machine   {cores} cores {processor}, load average at the start {load}"),
        format!(
            "database  PostgreSQL {}, {}",
            postgres.version,
            Postgres::settings()
        ),
        format!(
            "disk      {}, one commit takes {commit_ms:.2} ms",
            postgres.home.display()
        ),
    ];
    let variables: Vec<String> = (variables.iter())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !variables.is_empty() {
        lines.push(format!("server    {}", variables.join(" ")));
    }
    Ok(lines.join("\n"))
}

/// The value of the first `name : value` of a file.
fn first_value(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
