//! The imports of a crate's source, resolved to files.
//!
//! A small lexer drops comments and literals. It leaves two kinds of paths: those of `use`
//! declarations, and those in code. A path that starts with `crate`, `self`, `super`, a child
//! module or an imported name is followed, through re-exports, to the file that defines its item.
//! Inline modules named `tests` are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::lexer::{Token, is_name, tokens};

/// The modules of one crate, by module path: `[]` is the root, `["rpc", "status"]` is
/// `rpc/status.rs` or `rpc/status/mod.rs`.
pub struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

/// One file.
pub struct Module {
    /// Below the crate's `src`.
    pub file: String,
    uses: Vec<Use>,
    mentions: Vec<Mention>,
}

/// A name that a `use` declaration brings into its file.
struct Use {
    name: String,
    target: Mention,
    is_public: bool,
}

/// A path in the source.
struct Mention {
    path: Vec<String>,
    line: usize,
}

/// A file mentions a module.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub line: usize,
    /// The file needs an item of the other file. (Otherwise it re-exports one, or names a module.)
    pub needs_item: bool,
}

impl Crate {
    /// Reads all `.rs` files below this folder.
    pub fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        collect(root, &mut files);
        let modules = files.into_iter().filter_map(|file| {
            let relative = file.strip_prefix(root).expect("it is below the root");
            let path = module_path(relative)?;
            let text = fs::read_to_string(&file).expect("source is readable");
            let file = relative.display().to_string();
            Some((path, Module::parse(file, &text)))
        });
        Self {
            modules: modules.collect(),
        }
    }

    pub fn modules(&self) -> impl Iterator<Item = (&[String], &Module)> {
        (self.modules.iter()).map(|(path, module)| (path.as_slice(), module))
    }

    pub fn file(&self, module: &[String]) -> &str {
        &self.modules[module].file
    }

    /// Imports between different files of this crate.
    pub fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (from, module) in &self.modules {
            let uses = (module.uses.iter()).map(|it| (&it.target, it.is_public, true));
            let mentions = module.mentions.iter().map(|it| (it, false, false));
            for (mention, is_public, is_use) in uses.chain(mentions) {
                let Some(path) = self.absolute(from, &mention.path, 0) else {
                    continue;
                };
                let is_module = self.modules.contains_key(&path);
                let to = self.definition(&path, 0);
                if to != *from {
                    imports.insert(Import {
                        from: from.clone(),
                        to,
                        line: mention.line,
                        needs_item: !(is_public || is_use && is_module),
                    });
                }
            }
        }
        imports
    }

    /// The path from the crate's root; `None` for paths into other crates and into the file itself.
    fn absolute(&self, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let parent = |module: &[String]| module[..module.len().saturating_sub(1)].to_vec();
        let base = match first.as_str() {
            "crate" | "heist" => Vec::new(),
            "self" => module.to_vec(),
            "super" => {
                let mut base = parent(module);
                let mut rest = rest;
                while rest.first().is_some_and(|next| next == "super") {
                    base = parent(&base);
                    rest = &rest[1..];
                }
                return Some([&base, rest].concat());
            }
            name => {
                let child = [module, std::slice::from_ref(first)].concat();
                if self.modules.contains_key(&child) {
                    child
                } else if depth < MOST_STEPS {
                    let imported = self.modules[module].import_named(name)?;
                    self.absolute(module, imported, depth + 1)?
                } else {
                    return None;
                }
            }
        };
        Some([&base, rest].concat())
    }

    /// The module that defines the item at an absolute path.
    fn definition(&self, path: &[String], depth: usize) -> Vec<String> {
        let mut module = Vec::new();
        for (place, segment) in path.iter().enumerate() {
            let child = [&module[..], std::slice::from_ref(segment)].concat();
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let reexported = self.modules[&module]
                .import_named(segment)
                .filter(|_| depth < MOST_STEPS)
                .and_then(|target| self.absolute(&module, target, depth + 1));
            return match reexported {
                Some(target) => self.definition(&[&target, &path[place + 1..]].concat(), depth + 1),
                None => module,
            };
        }
        module
    }
}

/// Longer chains of re-exports and aliases are not followed.
const MOST_STEPS: usize = 8;

impl Module {
    fn parse(file: String, text: &str) -> Self {
        let mut parser = Parser {
            tokens: tokens(text),
            place: 0,
            uses: Vec::new(),
            mentions: Vec::new(),
        };
        parser.run();
        Self {
            file,
            uses: parser.uses,
            mentions: parser.mentions,
        }
    }

    fn import_named(&self, name: &str) -> Option<&[String]> {
        let import = self.uses.iter().find(|import| import.name == name)?;
        Some(&import.target.path)
    }

    /// Paths as they are written, with their lines; imported names are written out.
    pub fn paths(&self) -> impl Iterator<Item = (String, usize)> {
        let uses = self.uses.iter().map(|import| &import.target);
        let all = uses.chain(&self.mentions);
        all.map(|mention| {
            let (first, rest) = mention.path.split_first().expect("paths are not empty");
            let start = (self.import_named(first)).unwrap_or(std::slice::from_ref(first));
            ([start, rest].concat().join("::"), mention.line)
        })
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `None` for `main.rs` and for modules of tests.
fn module_path(file: &Path) -> Option<Vec<String>> {
    let file = file.with_extension("");
    let segments = file.iter().map(|segment| segment.to_str().expect("UTF-8"));
    let mut path: Vec<String> = segments.map(str::to_owned).collect();
    if path
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        path.pop();
    }
    let left_out = path == ["main"] || path.last().is_some_and(|last| last == "tests");
    (!left_out).then_some(path)
}

struct Parser {
    tokens: Vec<Token>,
    place: usize,
    uses: Vec<Use>,
    mentions: Vec<Mention>,
}

impl Parser {
    fn run(&mut self) {
        while self.place < self.tokens.len() {
            match self.text(0) {
                "use" => {
                    let is_public = self.is_after_pub();
                    self.place += 1;
                    self.use_tree(&[], is_public);
                }
                // The path of `pub(in …)` needs nothing of that module.
                "pub" if self.text(1) == "(" && self.text(2) == "in" => {
                    while !matches!(self.text(0), ")" | "") {
                        self.place += 1;
                    }
                }
                "mod" if self.text(1) == "tests" && self.text(2) == "{" => {
                    self.place += 2;
                    self.skip_block();
                }
                text if is_name(text) => self.mention(),
                _ => self.place += 1,
            }
        }
    }

    /// The token at this distance.
    fn text(&self, distance: usize) -> &str {
        (self.tokens.get(self.place + distance)).map_or("", |token| token.text.as_str())
    }

    fn line(&self) -> usize {
        self.tokens[self.place.min(self.tokens.len() - 1)].line
    }

    /// `pub use` and `pub(crate) use`.
    fn is_after_pub(&self) -> bool {
        let before = |distance: usize| {
            let place = self.place.checked_sub(distance)?;
            Some(self.tokens[place].text.as_str())
        };
        before(1) == Some("pub") || (before(1) == Some(")") && before(4) == Some("pub"))
    }

    fn skip_block(&mut self) {
        let mut depth = 0;
        while self.place < self.tokens.len() {
            match self.text(0) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            self.place += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// One tree of a `use` declaration, up to the `,`, `}` or `;` after it.
    fn use_tree(&mut self, prefix: &[String], is_public: bool) {
        let mut path = prefix.to_vec();
        loop {
            let text = self.text(0).to_owned();
            match text.as_str() {
                "{" => {
                    self.place += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.use_tree(&path, is_public);
                        if self.text(0) == "," {
                            self.place += 1;
                        }
                    }
                    self.place += 1;
                    return;
                }
                "::" => self.place += 1,
                "*" => {
                    self.add_use("*".to_owned(), path, is_public);
                    self.place += 1;
                    return;
                }
                name if is_name(name) => {
                    if name != "self" || path.is_empty() {
                        path.push(text.clone());
                    }
                    self.place += 1;
                    if self.text(0) == "::" {
                        continue;
                    }
                    let mut name = path.last().cloned().unwrap_or_default();
                    if self.text(0) == "as" {
                        self.text(1).clone_into(&mut name);
                        self.place += 2;
                    }
                    self.add_use(name, path, is_public);
                    return;
                }
                _ => return,
            }
        }
    }

    fn add_use(&mut self, name: String, path: Vec<String>, is_public: bool) {
        let line = self.line();
        self.uses.push(Use {
            name,
            target: Mention { path, line },
            is_public,
        });
    }

    /// A path in code.
    fn mention(&mut self) {
        let line = self.line();
        let is_field = self.place > 0 && matches!(self.tokens[self.place - 1].text.as_str(), ".");
        let mut path = vec![self.text(0).to_owned()];
        self.place += 1;
        while self.text(0) == "::" && is_name(self.text(1)) {
            path.push(self.text(1).to_owned());
            self.place += 2;
        }
        let is_type = path[0].starts_with(char::is_uppercase);
        if !is_field && (path.len() > 1 || is_type) {
            self.mentions.push(Mention { path, line });
        }
    }
}

/// The edges of a graph that are part of a circle.
pub fn in_circles<T: Ord + Clone>(edges: &BTreeSet<(T, T)>) -> Vec<(T, T)> {
    let mut ends: BTreeMap<&T, Vec<&T>> = BTreeMap::new();
    for (from, to) in edges {
        ends.entry(from).or_default().push(to);
    }
    let leads_back = |(from, to): &&(T, T)| {
        let mut reached = BTreeSet::from([to]);
        let mut open = vec![to];
        while let Some(node) = open.pop() {
            let next = ends.get(node).into_iter().flatten();
            open.extend(next.filter(|to| reached.insert(to)));
        }
        reached.contains(from)
    };
    edges.iter().filter(leads_back).cloned().collect()
}
