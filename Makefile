# Frequent commands. Each installs PostgreSQL first if the machine has none.

.PHONY: run test check queries

run: ## The service, with a private PostgreSQL and demo players
	PG_BIN_DIR="$$(scripts/ensure-postgres)" cargo run

test: ## Every test, against real servers and a real PostgreSQL
	PG_BIN_DIR="$$(scripts/ensure-postgres)" cargo test

check: ## Format, lints, queries, protos, links
	scripts/check

queries: ## Writes .sqlx, after a change of a query or a migration
	scripts/prepare-queries
