# Every target says what it is for: make help.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0

.DEFAULT_GOAL := help
.PHONY: help run test test-matrix soak bench lint build clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[a-z ]* ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# Not with go run: ended by a signal, it leaves behind what it runs.
run: build ## a server with a throw-away Postgres and the chat sample, on http://localhost:4000
	@bin/rowcast dev

# One goroutine each, to which the race detector has nothing to say, and for which it takes six times as long.
MODELS := ^(TestEveryOrderOfEvents|TestNothingIsDeliveredWithoutTheRight)$$
test: ## the whole suite, race detector on for all that is concurrent, against a throw-away Postgres (or TEST_DATABASE_URL, PGTEST_BIN, PGTEST_IMAGE)
	@go test -timeout 20m -run '$(MODELS)' ./server/hub & models=$$!; \
	go run ./server/pgtest/with go test -race -timeout 20m -p 2 -parallel 4 -skip '$(MODELS)' ./...; status=$$?; \
	wait $$models || status=1; exit $$status

# Rounds of about 50 steps each; half of the races lose connections to the database meanwhile.
SOAK_RACES ?= 20000
SOAK_MODELS ?= 5000000
SOAK_EXPLAINED ?= 300
SOAK_AIMED ?= 20000
SOAK_RESUMED ?= 50000
SOAK_DECISIONS ?= 200000
SOAK_CHANGES ?= 1000000
soak: ## a crowd, races, models and attacks at full size (SOAK_RACES rounds, SOAK_MODELS runs, SOAK_RESUMED messages, SOAK_DECISIONS decisions, SOAK_EXPLAINED sets of policies, SOAK_AIMED and SOAK_CHANGES changes of rows), and what they saw
	go run ./server/bench -only crowd
	DECISION_CASES=$(SOAK_DECISIONS) go run ./server/pgtest/with go test -timeout 24h -count 1 -v -run '^TestDecisionsAreWhatTheUserCouldDo$$' ./migrations
	RESUME_MESSAGES=$(SOAK_RESUMED) go run ./server/pgtest/with go test -race -timeout 24h -count 1 -v -run '^TestResumeAcrossKilledServers$$' ./server
	HOSTILE_CONNECTS=100000 HOSTILE_JOINS=100000 HOSTILE_FLOOD=1000000 go run ./server/pgtest/with go test -timeout 24h -count 1 -v \
		-run '^(TestConnectionChurn|TestVeryManyTopics|TestFloods)$$' ./server
	AIM_CHANGES=$(SOAK_AIMED) AIM_SEED=$$(date +%s) go run ./server/pgtest/with go test -timeout 24h -count 1 -v -run '^TestEveryoneConcernedIsAimedAt$$' ./server/rights/...
	CHANGES=20000 go run ./server/pgtest/with go test -timeout 24h -count $$(($(SOAK_CHANGES) / 20000)) -v -run '^TestChangesAreWhatRowSecuritySays$$' ./server/changes
	EXPLAIN_SETS=$(SOAK_EXPLAINED) go run ./server/pgtest/with go test -timeout 24h -count 1 -v -run '^TestVerdictsAreTheServers$$' ./server/explain
	EXPLORE=all go test -timeout 24h -count 1 -v -run '^TestEveryOrderOfEvents$$' ./server/hub
	RACE_ROUNDS=$$(($(SOAK_RACES) / 4)) MODEL_RUNS=$(SOAK_MODELS) go run ./server/pgtest/with go test -race -timeout 24h -count 1 -v \
		-run '^(TestRaceOfRevocations|TestNothingIsDeliveredWithoutTheRight)$$' ./server ./server/hub

bench: ## benchmarks, as ratios to a baseline of the same run (Linux, two cores, a quiet machine)
	@go run ./server/bench

# Where a major differs, it is in the database and in what asks it.
MAJORS ?= 14 15 16 17 18
test-matrix: ## the packages that ask the database, on every major of Postgres that npm or Docker has for this machine, and through PgBouncer
	go run ./server/pgtest/with -majors "$(MAJORS)" go test -timeout 9m -p 2 \
		./migrations ./server/postgres ./server/lint ./server/rights/... ./server/auth ./server/explain ./server/wal ./server/feed ./server/changes ./server/pgtest/... ./server
	go run ./server/pgtest/with -pgbouncer go test -timeout 9m -p 2 ./server/postgres ./server/auth ./server/feed ./server

lint: ## gofmt, go vet, staticcheck, govulncheck
	@unformatted=$$(gofmt -l migrations server sql); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	@out=$$(go run $(GOVULNCHECK) ./... 2>&1) && echo "govulncheck: nothing found" || case $$out in \
		*"fetching vulnerabilities"*) echo "govulncheck: skipped: offline" ;; \
		*) echo "$$out"; exit 1 ;; esac

build: ## the binary, bin/rowcast
	CGO_ENABLED=0 go build -trimpath -o bin/rowcast ./server

clean: ## remove what build made
	rm -rf bin
