//! Migrations, upgrades, plans, numbers of statements, replicas for reads, and PgBouncer.

mod application_changes;
mod application_schemas;
pub mod migrations;
mod plans;
mod read_replica;
mod statement_counts;
mod through_pgbouncer;
mod upgrade;
