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

/// The texts between backticks in the first three cells of each row of a document's tables.
fn rows(document: &str) -> Vec<[Vec<&str>; 3]> {
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1);
        [(); 3].map(|()| cells.next().map(code).unwrap_or_default())
    })
    .collect()
}

/// The default of a flag, as the help states it.
fn default<'a>(help: &'a str, flag: &str) -> Option<&'a str> {
    let (_, description) = help.split_once(&format!("{flag} <"))?;
    let description = description.split(" --").next()?;
    let (_, default) = description.split_once("[default: ")?;
    let (default, _) = default.split_once(']')?;
    Some(default).filter(|default| *default != "\"\"")
}

#[test]
fn settings_match_their_documentation() {
    let help = help();
    let settings = read("docs/settings.md");
    let email = read("docs/email.md");
    let (_, email) = email.split_once("\n## Settings\n").unwrap();
    let (email, _) = email.split_once("\n## ").unwrap();

    let rows = [rows(&settings), rows(email)].concat();
    let documented: BTreeSet<String> = (rows.iter())
        .flat_map(|[variables, ..]| variables.iter().map(|name| (*name).to_owned()))
        .collect();
    let variables = variables(&help);
    assert!(variables.len() > 40, "{variables:?}");
    assert_eq!(variables, documented);

    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for [_, flags, defaults] in &rows {
        for flag in flags.iter().filter(|flag| flag.starts_with("--")) {
            assert!(help.contains(&format!("{flag} <")), "{flag}");
            if let Some(default) = default(&help, flag) {
                assert!(defaults.contains(&default), "{flag}: {default}");
            }
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
    let document = read("docs/api/README.md");
    for reason in &reasons {
        let mentioned = document.contains(&format!("`{reason}`"));
        assert!(mentioned, "docs/api/README.md does not mention {reason}");
    }
}
