//! What is written down beside the code: every setting and every reason.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::{process::Heist, runtime};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn help() -> String {
    let ended = runtime().block_on(Heist::new(&["serve", "--help"]).ended());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// The environment variables that a help mentions, which it also breaks at the end of a line.
fn variables(help: &str) -> BTreeSet<String> {
    let is_name = |character: char| character.is_ascii_uppercase() || character == '_';
    let mentions = help.split("[env:").skip(1).map(str::trim_start);
    mentions
        .map(|rest| rest[..rest.find(|it| !is_name(it)).unwrap()].to_owned())
        .collect()
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// What stands between backticks in the first cells of a document's tables, by row.
fn rows(document: &str) -> Vec<[Vec<&str>; 2]> {
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1);
        [(); 2].map(|()| cells.next().map(code).unwrap_or_default())
    })
    .collect()
}

#[test]
fn settings_match_their_documentation() {
    let help = help();
    let readme = read("README.md");
    let (_, readme) = readme.split_once("\n## Settings\n").unwrap();
    let (readme, _) = readme.split_once("\n## ").unwrap();
    let email = read("docs/email.md");
    let (_, email) = email.split_once("\n## Settings\n").unwrap();
    let (email, _) = email.split_once("\n## ").unwrap();

    let rows = [rows(readme), rows(email)].concat();
    let documented: BTreeSet<String> = (rows.iter())
        .flat_map(|[variables, _]| variables.iter().map(|name| (*name).to_owned()))
        .collect();
    let variables = variables(&help);
    assert!(variables.len() > 40, "{variables:?}");
    assert_eq!(variables, documented);

    for flag in rows.iter().flat_map(|[_, flags]| flags) {
        if flag.starts_with("--") {
            assert!(help.contains(&format!("{flag} <")), "{flag}");
        }
    }
}

#[test]
fn every_reason_is_documented() {
    let source = read("src/rpc/status.rs");
    let literals = source.split('"').skip(1).step_by(2);
    let is_reason = |text: &&str| {
        text.len() > 3 && text.bytes().all(|it| it.is_ascii_uppercase() || it == b'_')
    };
    let mut reasons: BTreeSet<&str> = literals.filter(is_reason).collect();
    let proto = read("proto/heist/v1/heist.proto");
    let refusals = proto.lines().filter_map(|line| {
        let (name, _) = line.trim().split_once(" = ")?;
        name.strip_prefix("REFUSAL_REASON_")
    });
    reasons.extend(refusals.filter(|name| *name != "UNSPECIFIED"));
    assert!(reasons.len() > 20, "{reasons:?}");
    for document in ["README.md", "docs/api/README.md"] {
        let text = read(document);
        for reason in &reasons {
            let mentioned = text.contains(&format!("`{reason}`"));
            assert!(mentioned, "{document} does not mention {reason}");
        }
    }
}
