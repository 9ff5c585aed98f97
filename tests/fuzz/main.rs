//! What comes from outside, turned over and torn apart: requests, page tokens, settings.
//!
//! Each target replays the kept inputs in `corpus/`, and then mutates them for a second, or for
//! as long as is asked:
//!
//! ```sh
//! FUZZ_SECONDS=600 cargo test --release --test fuzz
//! ```
//!
//! An input that fails is left in `target/fuzz/`. Move it to the corpus with its repair. The
//! mutations are not guided by coverage, which takes a nightly compiler; instead the corpus has a
//! good input of each kind.

mod mutate;
mod page_tokens;
mod requests;
mod service;
mod settings;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

use rand::{rngs::SmallRng, seq::IndexedRandom as _};

/// An input, and what it is an input to: the name of its file up to the first dot.
#[derive(Clone)]
struct Input {
    name: String,
    bytes: Vec<u8>,
}

/// Runs a target on its corpus, and on what becomes of it.
fn fuzz(target: &str, check: impl Fn(&Input)) {
    let corpus = corpus(target);
    for input in &corpus {
        run(target, input, &check);
    }
    let seconds = std::env::var("FUZZ_SECONDS").map_or(1, |it| it.parse().expect("seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rng: SmallRng = rand::make_rng();
    let mut runs = 0_u64;
    while Instant::now() < until {
        let parent = corpus.choose(&mut rng).expect("a corpus");
        let other = corpus.choose(&mut rng).expect("a corpus");
        let child = Input {
            name: parent.name.clone(),
            bytes: mutate::mutate(&parent.bytes, &other.bytes, &mut rng),
        };
        run(target, &child, &check);
        runs += 1;
    }
    println!("{target}: {} kept inputs, {runs} mutations", corpus.len());
}

fn corpus(target: &str) -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut files: Vec<_> = (fs::read_dir(folder.join(target)).expect("a corpus"))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    (files.iter())
        .map(|file| {
            let name = file.file_name().and_then(|it| it.to_str()).expect("a name");
            Input {
                name: name.split('.').next().expect("a name").to_owned(),
                bytes: fs::read(file).expect("it can be read"),
            }
        })
        .collect()
}

/// Keeps the input where the target fails.
fn run(target: &str, input: &Input, check: impl Fn(&Input)) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) else {
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join(format!(
        "{}.{target}-{:x}",
        input.name,
        rand::random::<u32>()
    ));
    fs::write(&file, &input.bytes).expect("it can be written");
    eprintln!("failed on {}", file.display());
    resume_unwind(panic)
}
