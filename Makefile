# Frequent commands. Each installs PostgreSQL first if the machine has none.

.PHONY: run demo test check queries

run: ## The service, with a private PostgreSQL and demo players
	PG_BIN_DIR="$$(scripts/ensure-postgres)" cargo run

demo: ## The service, and a page on which demo players rob each other; needs Node.js
	scripts/demo

test: ## Every test, against real servers and a real PostgreSQL
	PG_BIN_DIR="$$(scripts/ensure-postgres)" cargo test

check: ## Format, lints, queries, protos, links
	scripts/check

queries: ## Writes .sqlx, after a change of a query or a migration
	scripts/prepare-queries
