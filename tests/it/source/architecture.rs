//! The rules of the architecture, held by reading the source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::imports::{Crate, in_circles};

const MOST_LINES: usize = 400;

/// What each folder of `src/` may import. The longest row that fits a file counts for it, so that a
/// folder inside a folder may have a row of its own. `pb` is the contract, which `lib.rs` includes.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("archive", &["store"]),
    ("auth", &["domain", "telemetry", "watched"]),
    (
        "cli",
        &[
            "archive",
            "auth",
            "cli/config",
            "demo",
            "domain",
            "mail",
            "server",
            "settings",
            "store",
            "telemetry",
            "watched",
        ],
    ),
    (
        "cli/config",
        &[
            "auth",
            "domain",
            "engine",
            "mail",
            "rpc",
            "server",
            "settings",
            "store",
            "telemetry",
            "watched",
        ],
    ),
    ("demo", &["domain", "engine", "fault", "store"]),
    ("domain", &[]),
    ("engine", &["domain", "fault", "store", "telemetry"]),
    ("events", &["domain", "store"]),
    ("fault", &["store", "telemetry"]),
    ("mail", &["domain", "store", "telemetry", "watched"]),
    (
        "rpc",
        &[
            "auth",
            "domain",
            "engine",
            "events",
            "fault",
            "pb",
            "settings",
            "store",
            "telemetry",
        ],
    ),
    (
        "server",
        &[
            "auth",
            "domain",
            "engine",
            "events",
            "mail",
            "pb",
            "rpc",
            "settings",
            "store",
            "telemetry",
            "watched",
        ],
    ),
    ("settings", &["domain", "watched"]),
    ("store", &["domain", "telemetry", "watched"]),
    ("telemetry", &[]),
    ("watched", &[]),
];

/// Which files may use a crate, a module of the standard library, or one of their items.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (
        &["tonic", "tonic_types", "prost", "prost_types"],
        &[
            "lib.rs",
            "rpc/",
            "server/",
            "cli/healthcheck",
            "telemetry/otlp.rs",
        ],
    ),
    // The engine holds connections for the store.
    (&["sqlx"], &["store/", "demo/", "engine/"]),
    (
        &[
            "sqlx::query",
            "sqlx::query_as",
            "sqlx::query_scalar",
            "sqlx::query_file",
            "sqlx::query_file_as",
            "sqlx::query_file_scalar",
            "sqlx::raw_sql",
        ],
        &["store/", "demo/"],
    ),
    (
        &[
            "std::env::var",
            "std::env::vars",
            "std::env::var_os",
            "std::env::vars_os",
            "option_env",
        ],
        &["cli/config/"],
    ),
];

/// Words that `domain/` must not contain: it is pure, so time and randomness are passed in.
const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "tonic",
    "prost",
    "tracing",
    "async",
    "await",
    "std::env",
    "now_utc",
    "SystemTime",
    "Instant",
    "rand",
    "now_v7",
    "new_v4",
];

/// A file below `src/`, by its path there.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = src();
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

    /// Lines that contain a word as a whole word outside comments.
    fn lines_with(&self, word: &str) -> Vec<String> {
        (self.text.lines().enumerate())
            .filter(|(_, line)| has_word(without_comment(line), word))
            .map(|(index, line)| format!("{}:{}: {}", self.path, index + 1, line.trim()))
            .collect()
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
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

/// Fails if a file in `places` contains one of the `words`.
fn forbid(places: &[&str], words: &[&str]) {
    let found: Vec<String> = (Source::all().iter())
        .filter(|source| source.is_in(places))
        .flat_map(|source| words.iter().flat_map(|word| source.lines_with(word)))
        .collect();
    assert!(found.is_empty(), "{words:?}:\n{}", found.join("\n"));
}

/// The row of [`MAY_IMPORT`] that counts for a module.
fn folder(module: &[String]) -> &'static str {
    let path = match module {
        [] => "pb".to_owned(),
        _ => module.join("/"),
    };
    let rows = MAY_IMPORT.iter().map(|&(folder, _)| folder);
    let fits = |folder: &&str| {
        (path.strip_prefix(*folder)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let longest = rows.filter(fits).max_by_key(|folder| folder.len());
    longest.unwrap_or_else(|| {
        assert_eq!(path, "pb", "MAY_IMPORT has no row for this module");
        "pb"
    })
}

#[test]
fn folders_import_only_what_the_table_allows() {
    let source = Crate::read(&src());
    let mut forbidden = Vec::new();
    for import in source.imports() {
        let (from, to) = (folder(&import.from), folder(&import.to));
        let row = MAY_IMPORT.iter().find(|(folder, _)| *folder == from);
        let allowed = row.map_or(&[][..], |(_, allowed)| allowed);
        if from != to && !allowed.contains(&to) {
            let (from_file, to_file) = (source.file(&import.from), source.file(&import.to));
            forbidden.push(format!("{from_file}:{}: {to_file}", import.line));
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

#[test]
fn the_table_of_imports_has_no_stale_entries() {
    let source = Crate::read(&src());
    let modules: BTreeSet<&str> = source.modules().map(|(path, _)| folder(path)).collect();
    let rows: BTreeSet<&str> = MAY_IMPORT.iter().map(|(folder, _)| *folder).collect();
    let stale: Vec<_> = rows.difference(&modules).collect();
    assert!(stale.is_empty(), "rows without a file: {stale:?}");

    let used: BTreeSet<_> = (source.imports().iter())
        .map(|import| (folder(&import.from), folder(&import.to)))
        .collect();
    let unused: Vec<_> = (MAY_IMPORT.iter())
        .flat_map(|&(from, allowed)| allowed.iter().map(move |&to| (from, to)))
        .filter(|arrow| !used.contains(arrow))
        .collect();
    assert!(unused.is_empty(), "arrows without an import: {unused:?}");
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let source = Crate::read(&src());
    let needs = source.imports().into_iter().filter(|it| it.needs_item);
    let edges = needs.map(|import| {
        let file = |module| source.file(module).to_owned();
        (file(&import.from), file(&import.to))
    });
    let circles: Vec<String> = (in_circles(&edges.collect()).iter())
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn the_table_of_imports_has_no_circle() {
    let arrows =
        (MAY_IMPORT.iter()).flat_map(|&(from, allowed)| allowed.iter().map(move |&to| (from, to)));
    let circles = in_circles(&arrows.collect());
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn crates_are_used_only_where_the_table_allows() {
    let source = Crate::read(&src());
    let mut forbidden = Vec::new();
    for (_, module) in source.modules() {
        for (path, line) in module.paths() {
            for (items, places) in ONLY_IN {
                let is_item = |item: &&str| {
                    (path.strip_prefix(*item))
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                };
                let is_allowed = places.iter().any(|place| module.file.starts_with(place));
                if items.iter().any(is_item) && !is_allowed {
                    forbidden.push(format!("{}:{line}: {path}", module.file));
                }
            }
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

#[test]
fn the_domain_is_pure() {
    forbid(&["domain/"], IMPURE);
}

#[test]
fn rpc_contains_no_sql() {
    forbid(&["rpc/"], &["SELECT", "UPDATE", "INSERT", "DELETE"]);
}

#[test]
fn only_config_and_settings_declare_environment_variables() {
    let found: Vec<String> = (Source::all().iter())
        .filter(|source| !source.is_in(&["cli/config/", "settings/"]))
        .filter(|source| source.text.contains("env = \""))
        .map(|source| source.path.clone())
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_the_store_names_the_applications_tables() {
    let tables = ["\"User\"", "\"UserPointEvent\"", "\"PointEventTypeMaster\""];
    let found: Vec<String> = (Source::all().iter())
        .filter(|source| !source.is_in(&["store/", "demo/"]))
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
fn statements_name_their_columns() {
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
fn files_have_at_most_400_lines() {
    let long: Vec<String> = (Source::all().iter())
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// Each entry at the top of the repository is either in `.dockerignore`'s exceptions, and so part
/// of the image's build context, or named here as not needed by the build.
#[test]
fn the_image_build_context_is_complete() {
    let not_read = ".ci .dockerignore .gitignore CHANGELOG.md CONTRIBUTING.md Dockerfile Makefile \
        README.md benches clients clippy.toml compose.yaml deny.toml docs examples k8s monitoring scripts tests";
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
