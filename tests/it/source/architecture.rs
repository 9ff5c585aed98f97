//! Keeps out the arrows that the architecture forbids, by reading the source.
//!
//! Comments do not count: who talks about another room does not know it yet.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const MOST_LINES: usize = 400;

/// A file below `src/`, by its path there.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect(&root, &mut files);
        assert!(files.len() > 40, "{files:?}");
        (files.into_iter())
            .map(|file| Self {
                path: file
                    .strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
                text: fs::read_to_string(&file).unwrap(),
            })
            .collect()
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Lines that mention a word as a whole word, without their comments.
    fn mentions(&self, word: &str) -> Vec<String> {
        (self.text.lines().enumerate())
            .filter(|(_, line)| has_word(without_comment(line), word))
            .map(|(index, line)| format!("{}:{}: {}", self.path, index + 1, line.trim()))
            .collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn without_comment(line: &str) -> &str {
    line.find("//").map_or(line, |start| &line[..start])
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(is_part) && !line[start + word.len()..].starts_with(is_part)
    })
}

/// No file in `places` mentions one of the `words`.
fn forbid(places: &[&str], exceptions: &[&str], words: &[&str]) {
    let found: Vec<String> = (Source::all().iter())
        .filter(|source| source.is_in(places) && !source.is_in(exceptions))
        .flat_map(|source| words.iter().flat_map(|word| source.mentions(word)))
        .collect();
    assert!(found.is_empty(), "{words:?}:\n{}", found.join("\n"));
}

/// The rooms of the house but one, as their files see them.
fn rooms_other_than(room: &str) -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = (fs::read_dir(sources).unwrap())
        .map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .chain(["pb".to_owned()])
        .filter(|name| name != room && name != "lib" && name != "main");
    rooms.map(|name| format!("crate::{name}")).collect()
}

#[test]
fn the_domain_knows_nothing_but_itself() {
    let others = rooms_other_than("domain");
    let mut words: Vec<&str> = others.iter().map(String::as_str).collect();
    words.extend([
        "tokio", "sqlx", "tonic", "prost", "tracing", "async", "await", "std::env",
    ]);
    words.extend([
        "now_utc",
        "SystemTime",
        "Instant",
        "rand",
        "now_v7",
        "new_v4",
    ]);
    forbid(&["domain/"], &[], &words);
}

#[test]
fn nested_imports_hide_nothing_from_these_tests() {
    // `use crate::{rpc::..}` is how rustfmt writes imports: its parts are looked at here.
    for source in Source::all() {
        let forbidden: &[&str] = match source.path.split('/').next().unwrap() {
            "domain" => &[
                "rpc", "engine", "events", "mail", "store", "embedded", "settings", "config",
                "server", "cli", "pb",
            ],
            "store" => &["rpc", "engine", "events", "mail", "server", "cli", "pb"],
            "engine" => &["rpc", "server", "cli", "pb"],
            _ => &[],
        };
        for import in source.text.split("use crate::{").skip(1) {
            let import = &import[..import.find("};").unwrap()];
            for room in forbidden {
                assert!(!has_word(import, room), "{}: {room}", source.path);
            }
        }
    }
}

#[test]
fn the_store_knows_nobody_who_calls_it() {
    let words = [
        "crate::rpc",
        "crate::engine",
        "crate::events",
        "crate::mail",
        "crate::server",
        "crate::cli",
        "crate::pb",
        "tonic",
        "prost",
    ];
    forbid(&["store/"], &[], &words);
}

#[test]
fn rpcs_know_no_sql() {
    forbid(
        &["rpc/"],
        &[],
        &["sqlx", "query", "query_as", "SELECT", "UPDATE", "INSERT"],
    );
}

#[test]
fn only_rpc_knows_the_wire() {
    let exceptions = [
        "rpc/",
        "lib.rs",
        "server.rs",
        "server/",
        "cli/healthcheck",
        "telemetry/otlp.rs",
    ];
    forbid(
        &[""],
        &exceptions,
        &["tonic", "prost", "prost_types", "tonic_types", "crate::pb"],
    );
}

#[test]
fn only_the_store_and_the_embedded_server_know_sql() {
    // The engine holds connections for the store, and nothing else of sqlx.
    // config.rs names it in an example of a log filter.
    let exceptions = ["store/", "embedded/", "engine/", "config.rs"];
    forbid(&[""], &exceptions, &["sqlx"]);
    let statements = [
        "sqlx::query",
        "query_file",
        "query_scalar",
        "query_as",
        "raw_sql",
    ];
    forbid(&["engine/"], &[], &statements);
}

#[test]
fn only_config_reads_the_environment() {
    forbid(
        &[""],
        &["config.rs", "config/"],
        &[
            "env::var",
            "env::vars",
            "env::var_os",
            "env::vars_os",
            "option_env",
        ],
    );
    // clap reads what has `env`: that is in config, and in settings for the rules of the game.
    let found: Vec<String> = (Source::all().iter())
        .filter(|source| !source.is_in(&["config.rs", "config/", "settings/"]))
        .filter(|source| source.text.contains("env = \""))
        .map(|source| source.path.clone())
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_the_store_names_the_applications_tables() {
    let tables = ["\"User\"", "\"UserPointEvent\"", "\"PointEventTypeMaster\""];
    let found: Vec<String> = (Source::all().iter())
        .filter(|source| !source.is_in(&["store/", "embedded/"]))
        .flat_map(|source| {
            (source.text.lines().enumerate())
                .filter(|(_, line)| {
                    tables
                        .iter()
                        .any(|table| without_comment(line).contains(table))
                })
                .map(|(index, line)| format!("{}:{}: {line}", source.path, index + 1))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_reads_all_columns_whatever_they_are() {
    for source in Source::all()
        .iter()
        .filter(|source| source.is_in(&["store/"]))
    {
        for line in source.text.lines() {
            let line = line.split("--").next().unwrap();
            assert!(
                !line.contains("SELECT *") && !line.contains(".*"),
                "{}: {line}",
                source.path
            );
        }
    }
}

#[test]
fn files_are_split_before_they_grow_too_long() {
    let long: Vec<String> = (Source::all().iter())
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// What is new at the top of the repository is either read by the build of the program, and so
/// copied into that of the image, or named here.
#[test]
fn the_build_of_the_image_has_what_the_build_of_the_program_reads() {
    let not_read = ".ci .dockerignore .gitignore CHANGELOG.md Dockerfile Makefile README.md benches \
        clippy.toml compose.yaml deny.toml docs examples k8s monitoring scripts tests";
    let not_read: Vec<&str> = not_read.split_whitespace().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied = fs::read_to_string(root.join(".dockerignore")).unwrap();
    let copied: Vec<&str> = (copied.lines().filter_map(|line| line.strip_prefix('!')))
        .filter_map(|path| path.split('/').next())
        .collect();
    let files = Command::new("git")
        .args(["ls-tree", "--name-only", "HEAD"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(files.status.success(), "{files:?}");
    for name in String::from_utf8(files.stdout).unwrap().lines() {
        let is_known = copied.contains(&name) || not_read.contains(&name);
        assert!(is_known, "{name} is neither in .dockerignore nor here");
    }
}
