# The commands of the README, and what else is done often. Each gets PostgreSQL first
# where the machine has none.

.PHONY: run demo test check queries

run: ## The service, with a private PostgreSQL and demo players
	PG_BIN_DIR="$$(scripts/ensure-postgres)" cargo run

demo: ## The service, and a page on which demo players rob each other; needs Node.js
	scripts/demo

test: ## Every test, against real servers and a real PostgreSQL
	PG_BIN_DIR="$$(scripts/ensure-postgres)" cargo test

check: ## What CI checks besides: format, lints, the protos, the queries
	scripts/check

queries: ## After a change of a query or a migration
	scripts/prepare-queries
