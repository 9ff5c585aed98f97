//! The `heist` command as operators and Kubernetes use it, as a process.

use heist::{engine::Limits, server::Server, settings::Settings, store::schema};

use crate::harness::{
    PATIENCE, World, connect, options, postgres::Database, process::Heist, runtime,
};

/// A port without a listener.
const UNREACHABLE_DATABASE: &str = "postgres://app:hunter2@127.0.0.1:1/app";

#[test]
fn a_bad_value_stops_the_start_with_one_line_that_says_what_is_expected() {
    runtime().block_on(async {
        let whole_number = "expected a whole number from";
        let duration = "expected a duration such as 90s, 24h or 7d";
        let switch = "expected true or false";
        for (variable, value, expectation) in [
            ("HEIST_ENABLED", "perhaps", switch),
            ("HEIST_REFLECTION", "2", switch),
            (
                "HEIST_STEAL_PERCENTAGE",
                "0",
                "expected a whole number from 1 to 100",
            ),
            ("HEIST_STEAL_PERCENTAGE", "101", whole_number),
            ("HEIST_STEAL_PERCENTAGE", "5%", whole_number),
            ("HEIST_MAX_STEAL_POINTS", "-1", whole_number),
            ("HEIST_MAX_STEAL_POINTS", "2147483648", whole_number),
            ("HEIST_MIN_TARGET_POINTS", "many", whole_number),
            ("HEIST_COOLDOWN", "soon", duration),
            ("HEIST_COOLDOWN", "24", duration),
            ("HEIST_COOLDOWN", "-1h", duration),
            ("HEIST_PROTECTION_AFTER", "0", whole_number),
            ("HEIST_RATE_LIMIT_PER_MINUTE", "-1", whole_number),
            ("HEIST_READ_RATE_LIMIT_PER_MINUTE", "ten", whole_number),
            ("HEIST_CONNECTION_LIMIT", "0", whole_number),
            ("HEIST_CALL_LIMIT", "0", whole_number),
            ("HEIST_STREAM_LIMIT", "1000001", whole_number),
            ("HEIST_CONNECTION_AGE", "old", duration),
            ("HEIST_PROTECTION_WINDOW", "1000years", duration),
            ("HEIST_SHUTDOWN_GRACE", "x", duration),
            ("HEIST_SHUTDOWN_DELAY", "x", duration),
            ("DATABASE_MAX_CONNECTIONS", "1", whole_number),
            ("DATABASE_MAX_CONNECTIONS", "1e3", whole_number),
            (
                "HEIST_LISTEN",
                "localhost",
                "expected an IP address and a port",
            ),
            (
                "HEIST_LISTEN",
                "127.0.0.1:65536",
                "expected an IP address and a port",
            ),
            ("HEIST_AUTH", "maybe", "expected none or jwt"),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http/protobuf",
                "expected grpc",
            ),
            (
                "HEIST_TLS_CLIENT_SCOPES",
                "auth.internal=token.awards",
                "there is no scope token.awards",
            ),
            ("HEIST_LOG_FORMAT", "xml", "expected json or text"),
            ("RUST_LOG", "heist=loudly", "expected a filter such as info"),
            (
                "HEIST_METRICS_LISTEN",
                "9464",
                "expected an IP address and a port",
            ),
            ("OTEL_TRACES_EXPORTER", "zipkin", "expected otlp or none"),
            ("OTEL_METRICS_EXPORTER", "x", "expected otlp or none"),
            ("OTEL_TRACES_SAMPLER", "sometimes", "expected always_on"),
            (
                "OTEL_TRACES_SAMPLER_ARG",
                "2",
                "expected a number from 0 to 1",
            ),
        ] {
            let ended = Heist::serve().env(variable, value).ended().await;
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let complaint = ended.complaint();
            assert!(
                complaint.starts_with(&format!("{variable}={value}: ")),
                "{complaint}"
            );
            assert!(complaint.contains(expectation), "{complaint}");
            assert_eq!(ended.stdout, "");
        }
    });
}

#[test]
fn empty_variables_count_as_not_set() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none");
        let server = [
            "DATABASE_READ_URL",
            "HEIST_ENABLED",
            "HEIST_JWT_ISSUER",
            "HEIST_JWKS_URL",
            "HEIST_SETTINGS_FILE",
            "HEIST_PLAYER_STREAM_LIMIT",
            "HOME",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_SDK_DISABLED",
            "OTEL_TRACES_EXPORTER",
            "RUST_LOG",
            "XDG_DATA_HOME",
        ]
        .into_iter()
        .fold(server, |server, variable| server.env(variable, ""));
        let server = server.serving().await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn passwords_in_arguments_and_urls_are_not_printed() {
    runtime().block_on(async {
        let url = "http://app:hunter2@collector";
        for arguments in [
            &["serve", url][..],
            &["serve", "--otlp-endpoint", url, "x"],
            &["rob", url],
        ] {
            let ended = Heist::new(arguments).ended().await;
            assert_eq!(ended.code, Some(2), "{ended:?}");
            assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        }
        for arguments in [&["serve"][..], &["serve", "--help"]] {
            let ended = Heist::new(arguments)
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", "app:hunter2@collector")
                .ended()
                .await;
            assert!(!ended.stdout.contains("hunter2"), "{ended:?}");
            assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        }
    });
}

#[test]
fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let program = env!("CARGO_BIN_EXE_heist");
        let status = format!("{program} migrate status");
        for (script, code) in [
            (format!("{status} | true; exit ${{PIPESTATUS[0]}}"), 0),
            (format!("{status} >/dev/full"), 3),
            (
                format!("{program} completions bash | true; exit ${{PIPESTATUS[0]}}"),
                0,
            ),
            (format!("{program} completions bash >/dev/full"), 3),
            (format!("{program} --help >/dev/full"), 0),
            (format!("{program} serve --nothing 2>/dev/full"), 2),
            (format!("{program} check --database-url x 2>/dev/full"), 2),
            (
                format!("HEIST_LISTEN=127.0.0.1:1 {program} healthcheck 2>/dev/full"),
                1,
            ),
            (
                format!("HEIST_LISTEN=127.0.0.1:1 {program} healthcheck 2>&-"),
                1,
            ),
        ] {
            let ended = tokio::process::Command::new("bash")
                .args(["-c", &script])
                .env("DATABASE_URL", &database.url)
                .output()
                .await
                .unwrap();
            let stderr = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(code), "{script}: {stderr}");
            assert!(!stderr.contains("panicked"), "{stderr}");
        }
        database.discard().await;
    });
}

#[test]
fn completions_and_the_version_need_no_environment() {
    runtime().block_on(async {
        for (shell, begins) in [
            ("bash", "_heist()"),
            ("zsh", "#compdef heist"),
            ("fish", "#"),
        ] {
            let ended = Heist::new(&["completions", shell]).ended().await;
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
            assert!(ended.stdout.starts_with(begins), "{}", ended.stdout);
            assert!(ended.stdout.contains("trusted-proxies"), "{shell}");
        }
        let ended = Heist::new(&["--version"]).ended().await;
        assert_eq!(ended.code, Some(0));
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            ended.stdout.starts_with(&format!("heist {version} (")),
            "{ended:?}"
        );
    });
}

#[test]
fn variables_of_libpq_do_not_change_the_connection() {
    World::run(async |world| {
        let status = |url: &str| Heist::new(&["migrate", "status"]).env("DATABASE_URL", url);
        let url = world.own_url();
        // The URL says both.
        let ended = status(url)
            .env("PGPORT", "1")
            .env("PGUSER", "nobody")
            .env("PGDATABASE", "nothing")
            .env("PGSSLMODE", "verify-full")
            .env("PGAPPNAME", "psql")
            .ended()
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for (variable, value) in [
            ("PGPASSWORD", "hunter2"),
            ("PGOPTIONS", "-c search_path=hunter2"),
            ("PGSSLROOTCERT", "/hunter2"),
        ] {
            let ended = status("postgres://app@127.0.0.1/app")
                .env(variable, value)
                .ended()
                .await;
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let complaint = ended.complaint();
            assert!(complaint.starts_with("DATABASE_URL="), "{complaint}");
            assert!(
                complaint.contains(&format!("{variable} is set")),
                "{complaint}"
            );
            assert!(!complaint.contains("hunter2"), "{complaint}");
        }
    });
}

#[test]
fn several_bad_values_are_still_one_line() {
    runtime().block_on(async {
        let heist = Heist::serve().env("HEIST_COOLDOWN", "soon");
        let ended = heist.env("HEIST_ENABLED", "perhaps").ended().await;
        assert_eq!(ended.code, Some(2));
        ended.complaint();
    });
}

#[test]
fn a_bad_flag_is_reported_like_a_bad_variable() {
    runtime().block_on(async {
        let ended = Heist::new(&["serve", "--cooldown", "soon"]).ended().await;
        assert_eq!(ended.code, Some(2));
        let complaint = ended.complaint();
        assert!(
            complaint.starts_with("HEIST_COOLDOWN=soon: "),
            "{complaint}"
        );
        assert!(complaint.contains("--cooldown"), "{complaint}");
    });
}

#[test]
fn a_password_is_never_printed() {
    runtime().block_on(async {
        let bad_urls = [
            "mysql://app:hunter2@db/app",
            "postgres://app:hunter2@db:port/app",
            "app:hunter2@db",
            "hunter2",
        ];
        for url in bad_urls.into_iter().chain([UNREACHABLE_DATABASE]) {
            for arguments in [
                &["serve"][..],
                &["serve", "--help"],
                &["migrate", "status"],
                &["migrate", "up", "--help"],
                &["healthcheck", "--help"],
            ] {
                let heist = Heist::new(arguments)
                    .env("DATABASE_URL", url)
                    .env("HEIST_AUTH", "none")
                    .env("HEIST_LISTEN", "127.0.0.1:0")
                    .env("RUST_LOG", "trace");
                let ended = if (url, arguments) == (UNREACHABLE_DATABASE, &["serve"]) {
                    let server = heist.spawn();
                    server.says("waiting for the database").await;
                    server.stopped_by("TERM").await
                } else {
                    heist.ended().await
                };
                assert!(
                    !ended.stderr.contains("hunter2"),
                    "{arguments:?}: {ended:?}"
                );
                assert!(
                    !ended.stdout.contains("hunter2"),
                    "{arguments:?}: {ended:?}"
                );
            }
        }
        for url in bad_urls {
            let ended = Heist::serve().env("DATABASE_URL", url).ended().await;
            assert_eq!(ended.code, Some(2));
            assert!(ended.complaint().starts_with("DATABASE_URL="), "{ended:?}");
        }
    });
}

#[test]
fn a_database_that_is_away_is_one_line() {
    runtime().block_on(async {
        for arguments in [&["migrate", "up"], &["migrate", "status"]] {
            let ended = Heist::new(arguments)
                .env("DATABASE_URL", UNREACHABLE_DATABASE)
                .ended()
                .await;
            assert_eq!(ended.code, Some(3), "{arguments:?}: {ended:?}");
            assert!(ended.complaint().contains("unavailable"), "{ended:?}");
        }
    });
}

#[test]
fn settings_that_contradict_each_other_are_one_line() {
    runtime().block_on(async {
        for (name, value, why) in [
            (
                "HEIST_SHUTDOWN_DELAY",
                "30s",
                "shorter than HEIST_SHUTDOWN_GRACE",
            ),
            (
                "DATABASE_DIRECT_URL",
                UNREACHABLE_DATABASE,
                "DATABASE_URL is not",
            ),
        ] {
            let ended = Heist::serve().env(name, value).ended().await;
            assert_eq!(ended.code, Some(3));
            let complaint = ended.complaint();
            assert!(
                complaint.contains(name) && complaint.contains(why),
                "{complaint}"
            );
        }
    });
}

#[test]
fn a_server_without_authentication_refuses_to_start_on_a_set_database() {
    runtime().block_on(async {
        let ended = Heist::serve()
            .env("DATABASE_URL", UNREACHABLE_DATABASE)
            .ended()
            .await;
        assert_eq!(ended.code, Some(3));
        assert!(ended.complaint().contains("HEIST_AUTH"), "{ended:?}");
    });
}

#[test]
fn every_command_has_help_with_examples() {
    runtime().block_on(async {
        for arguments in [
            &["--help"][..],
            &["serve", "--help"],
            &["migrate", "--help"],
            &["healthcheck", "--help"],
            &["token", "--help"],
        ] {
            let ended = Heist::new(arguments).ended().await;
            assert_eq!(ended.code, Some(0), "{arguments:?}");
            assert!(ended.stdout.contains("Examples:"), "{arguments:?}");
            assert_eq!(ended.stderr, "");
        }
        for arguments in [
            &["rob"][..],
            &["serve", "--nothing"],
            &["migrate"],
            &["migrate", "up"],
        ] {
            let ended = Heist::new(arguments).ended().await;
            assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
            assert_ne!(ended.stderr, "");
        }
    });
}

#[test]
fn migrate_goes_up_and_down_and_says_where_it_is() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let steps = schema::steps(&database.connect_options())
            .await
            .unwrap()
            .len();
        let migrate = async |arguments: &[&str]| {
            let arguments = [&["migrate"], arguments].concat();
            let ended = Heist::new(&arguments)
                .env("DATABASE_URL", &database.url)
                .ended()
                .await;
            assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
            ended.stdout
        };
        let applied = async || {
            let status = migrate(&["status"]).await;
            assert_eq!(status.lines().count(), steps, "{status}");
            status
                .lines()
                .filter(|line| line.starts_with("applied"))
                .count()
        };
        assert_eq!(applied().await, 0);
        for _ in 0..2 {
            assert!(migrate(&["up"]).await.contains("up to date"));
            assert_eq!(applied().await, steps);
        }
        migrate(&["down"]).await;
        assert_eq!(applied().await, steps - 1);
        migrate(&["down", "--to", "20261123000002"]).await;
        assert_eq!(applied().await, 2);
        let status: serde_json::Value =
            serde_json::from_str(&migrate(&["status", "--json"]).await).unwrap();
        let is_applied = |step: &&serde_json::Value| step["applied"] == true;
        assert_eq!(
            status.as_array().unwrap().iter().filter(is_applied).count(),
            2
        );
        migrate(&["down", "--all"]).await;
        assert_eq!(applied().await, 0);

        let nowhere = Heist::new(&["migrate", "down", "--to", "7"]);
        let ended = nowhere.env("DATABASE_URL", &database.url).ended().await;
        assert_eq!(ended.code, Some(3));
        assert!(
            ended.complaint().contains("no migration has the version 7"),
            "{ended:?}"
        );
        database.discard().await;
    });
}

#[test]
fn serve_on_an_old_schema_is_one_line() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let ended = Heist::serve()
            .env("DATABASE_URL", &database.url)
            .env("HEIST_AUTH", "none")
            .ended()
            .await;
        assert_eq!(ended.code, Some(3));
        assert!(
            ended.complaint().contains("run `heist migrate up`"),
            "{ended:?}"
        );
        database.discard().await;
    });
}

#[test]
fn the_exit_code_of_healthcheck_is_the_servers_health() {
    World::run(async |world| {
        let healthcheck = async |arguments: &[&str]| {
            let arguments = [&["healthcheck"], arguments].concat();
            let listen = world.address.to_string();
            Heist::new(&arguments)
                .env("HEIST_LISTEN", listen)
                .ended()
                .await
        };
        let ended = healthcheck(&[]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "SERVING\n"));
        let ended = healthcheck(&["--service", "heist.v1.TokenService"]).await;
        assert_eq!(ended.code, Some(0));
        let ended = healthcheck(&["--service", "heist.v1.Nothing"]).await;
        assert_eq!(ended.code, Some(1));
        ended.complaint();

        let everywhere = format!("0.0.0.0:{}", world.address.port());
        let ended = Heist::new(&["healthcheck"])
            .env("HEIST_LISTEN", everywhere)
            .ended()
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");

        let ended = Heist::new(&["healthcheck", "--listen", "127.0.0.1:1"])
            .ended()
            .await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.complaint().contains("127.0.0.1:1"), "{ended:?}");
    });
}

#[test]
fn an_address_that_is_taken_is_one_line() {
    World::run(async |world| {
        let ended = Heist::new(&["serve"])
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_LISTEN", world.address.to_string())
            .ended()
            .await;
        assert_eq!(ended.code, Some(3));
        let complaint = ended.complaint();
        assert!(
            complaint.contains(&format!("cannot listen on {}", world.address)),
            "{complaint}"
        );
    });
}

#[test]
fn the_rules_come_from_the_environment() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_STEAL_PERCENTAGE", "50")
            .env("HEIST_MAX_STEAL_POINTS", "0")
            .env("HEIST_MIN_TARGET_POINTS", "2")
            .env("HEIST_COOLDOWN", "0s")
            .env("HEIST_PROTECTION_WINDOW", "0s")
            .serving()
            .await;
        assert!(server.has_said("no authentication"), "it says so loudly");
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(12).await.seen_by(&there);
        let ben = world.player("Ben").points(8000).await;
        for points in [4000, 2000, 1000, 500, 250, 125, 63, 32, 16, 8, 4, 2] {
            ada.robs(&ben).await.unwrap();
            assert_eq!(ben.points().await, points);
        }
        let ended = server.stopped_by("TERM").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

#[test]
fn the_switch_comes_from_the_environment() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_ENABLED", "false")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").await;
        let refusal = world.refuses(there.get_balance(ada.id)).await;
        refusal.is(tonic::Code::FailedPrecondition, "FEATURE_DISABLED");
        assert_eq!(server.stopped_by("INT").await.code, Some(0));
    });
}

#[test]
fn a_terminated_server_finishes_running_calls_and_exits_with_zero() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let transaction = ben.locked().await;
        let call = tokio::spawn(ada.robs(&ben));
        world.a_session_waits_for_a_lock().await;

        server.signal("TERM").await;
        crate::harness::until("it has heard", async || {
            server.has_said("stopping").then_some(())
        })
        .await;
        transaction.rollback().await;

        call.await.unwrap().unwrap();
        let ended = server.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

#[test]
fn a_killed_server_leaves_correct_books() {
    let setup = World::setup().rules(|rules| rules.cooldown = std::time::Duration::ZERO);
    setup.run(async |world| {
        let ada = world.player("Ada").points(50_000).tokens(200).await;
        let ben = world.player("Ben").points(50_000).tokens(200).await;
        for _ in 0..3 {
            let server = Heist::serve()
                .env("DATABASE_URL", &world.database_url)
                .env("HEIST_AUTH", "none")
                .env("HEIST_COOLDOWN", "0s")
                .env("HEIST_PROTECTION_WINDOW", "0s")
                .serving()
                .await;
            let there = world.through(connect(server.address).await);
            let (ada, ben) = (ada.seen_by(&there), ben.seen_by(&there));
            let before = world.count_heists().await;
            let calls: Vec<_> = (0..20)
                .flat_map(|_| [ada.robs(&ben), ben.robs(&ada)])
                .map(tokio::spawn)
                .collect();
            crate::harness::until("some have happened", async || {
                (world.count_heists().await > before).then_some(())
            })
            .await;
            server.stopped_by("KILL").await;
            let mut answered = 0;
            for call in calls {
                answered += i64::from(call.await.unwrap().is_ok());
            }
            // PostgreSQL may still commit what was on its way.
            world.no_session_of_the_service_is_busy().await;
            assert!(world.count_heists().await - before >= answered);
        }
    });
}

#[test]
fn reflection_can_be_switched_off() {
    runtime().block_on(async {
        let database = Database::migrated().await;
        let options = heist::server::Options {
            reflection: false,
            ..options(&database.url, Settings::default(), Limits::default())
        };
        let server = Server::start(options).await.unwrap();
        let channel = connect(server.address()).await;
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let method = crate::harness::wire::Method::named(path);
        let refused = crate::harness::wire::call(&channel, &method, vec![])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
        server.stop(PATIENCE).await;
        database.discard().await;
    });
}
