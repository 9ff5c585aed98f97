//! Migrations, upgrades, plans, numbers of statements, replicas for reads, and PgBouncer.

mod application_changes;
mod application_schemas;
pub mod migrations;
mod odd_servers;
mod plans;
mod read_replica;
mod rotated_passwords;
mod schema_commands;
mod statement_counts;
mod through_pgbouncer;
mod upgrade;
