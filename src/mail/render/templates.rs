//! Templates: the built-in ones, and those of a folder that replace them.
//!
//! The folder has a sub-folder for each language. A file replaces the template of the same name.
//! Files at the top of the folder replace the template in every language.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, value::Serde,
};

use super::{
    content::{Content, DIGEST},
    format, sample,
};

/// The templates in English that are part of the program.
const BUILT_IN: [(&str, &str); 4] = [
    ("words.txt", include_str!("../templates/words.txt")),
    (
        "layout.subject",
        include_str!("../templates/layout.subject"),
    ),
    ("layout.txt", include_str!("../templates/layout.txt")),
    ("layout.html", include_str!("../templates/layout.html")),
];

/// The language of the built-in templates.
const ENGLISH: &str = "en";
/// Maximum number of steps for rendering one part of an e-mail. A digest of 50 notifications takes
/// about 5,000.
const FUEL: u64 = 200_000;
/// Largest size of a rendered part, in bytes.
const MAX_RENDERED_BYTES: usize = 512 * 1024;
/// Largest length of a subject, in characters.
const MAX_SUBJECT_CHARACTERS: usize = 200;
const MAX_FILES: usize = 500;

/// The templates of all languages.
#[derive(Clone, Debug)]
pub struct Templates {
    languages: BTreeMap<String, Environment<'static>>,
    default_language: String,
}

/// A file of the folder: its language, or `None` at the top, and the name of its template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mail) struct TemplateFile {
    path: PathBuf,
    language: Option<String>,
    name: String,
}

impl TemplateFile {
    pub(in crate::mail) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Templates {
    /// Lists the templates of a folder.
    ///
    /// # Errors
    ///
    /// Names what cannot be read, or has a name that no template has.
    pub(in crate::mail) fn list(folder: &Path) -> Result<Vec<TemplateFile>, String> {
        let mut files = Vec::new();
        for path in entries(folder)? {
            if path.is_dir() {
                let language = name_of(&path)?;
                for path in entries(&path)?.into_iter().filter(|path| path.is_file()) {
                    let name = name_of(&path)?;
                    let language = Some(language.to_ascii_lowercase());
                    files.push(TemplateFile {
                        path,
                        language,
                        name,
                    });
                }
            } else {
                let name = name_of(&path)?;
                files.push(TemplateFile {
                    path,
                    language: None,
                    name,
                });
            }
        }
        if files.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", folder.display()));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Compiles the contents of `files` over the built-in templates, and renders each kind of
    /// e-mail in each language with sample data.
    ///
    /// # Errors
    ///
    /// One line for each problem: file, line and what is wrong.
    pub(in crate::mail) fn new(
        files: &[TemplateFile],
        contents: &[Vec<u8>],
        default_language: &str,
    ) -> Result<Self, String> {
        let default_language = default_language.to_ascii_lowercase();
        let mut languages: BTreeMap<String, Environment<'static>> = BTreeMap::new();
        let of_files = files.iter().filter_map(|file| file.language.clone());
        for language in of_files.chain([ENGLISH.to_owned()]) {
            languages
                .entry(language.clone())
                .or_insert_with(|| environment(&language));
        }
        let mut problems = Vec::new();
        if !languages.contains_key(&default_language) {
            problems.push(format!(
                "there is no folder for the default language {default_language}"
            ));
        }
        // Files at the top first, so that those of a language replace them.
        let both = files.iter().zip(contents);
        let (top, of_language): (Vec<_>, Vec<_>) =
            both.partition(|(file, _)| file.language.is_none());
        for (file, content) in top.into_iter().chain(of_language) {
            let place = file.path.display();
            let Ok(text) = std::str::from_utf8(content) else {
                problems.push(format!("{place}: not UTF-8"));
                continue;
            };
            let targets = languages
                .iter_mut()
                .filter(|(language, _)| file.language.as_ref().is_none_or(|it| it == *language));
            for (_, environment) in targets {
                let added = environment.add_template_owned(file.name.clone(), text.to_owned());
                if let Err(error) = added {
                    problems.push(format!("{place}: {}", describe(&error)));
                    break;
                }
            }
        }
        let templates = Self {
            languages,
            default_language,
        };
        if problems.is_empty() {
            problems.extend(templates.try_out());
        }
        problems.dedup();
        if problems.is_empty() {
            Ok(templates)
        } else {
            Err(problems.join("\n"))
        }
    }

    /// Reads and compiles the templates of a folder. `None`: the built-in ones.
    ///
    /// # Errors
    ///
    /// One line for each problem: file, line and what is wrong.
    pub fn load(folder: Option<&Path>, default_language: &str) -> Result<Self, String> {
        let files = folder.map(Self::list).transpose()?.unwrap_or_default();
        let contents: Result<Vec<_>, String> = (files.iter())
            .map(|file| {
                fs::read(&file.path).map_err(|error| format!("{}: {error}", file.path.display()))
            })
            .collect();
        Self::new(&files, &contents?, default_language)
    }

    pub(super) fn languages(&self) -> impl Iterator<Item = &str> {
        self.languages.keys().map(String::as_str)
    }

    /// The language of the templates for a player with this language, such as `de-AT`: the same
    /// one, else `de`, else the default.
    pub(super) fn language_for(&self, language: Option<&str>) -> &str {
        let wanted = language
            .unwrap_or_default()
            .trim()
            .replace('_', "-")
            .to_ascii_lowercase();
        let base = wanted.split('-').next().unwrap_or_default();
        (self.languages.get_key_value(wanted.as_str()))
            .or_else(|| self.languages.get_key_value(base))
            .map_or(self.default_language.as_str(), |(language, _)| language)
    }

    /// The subject, the plain text and the HTML.
    ///
    /// # Errors
    ///
    /// Names the template and the line, and nothing of the content.
    pub(super) fn render(&self, content: &Content) -> Result<(String, String, String), String> {
        let environment = (self.languages.get(&content.language))
            .ok_or_else(|| format!("there are no templates for {}", content.language))?;
        let variables = Value::from(Serde(content));
        let part = |extension: &str| {
            let own = format!("{}.{extension}", content.kind);
            let layout = format!("layout.{extension}");
            let template = (environment.get_template(&own))
                .or_else(|_| environment.get_template(&layout))
                .map_err(|error| describe(&error))?;
            let text = template
                .render(variables.clone())
                .map_err(|error| describe(&error))?;
            if text.len() > MAX_RENDERED_BYTES {
                return Err(format!("{own}: longer than {MAX_RENDERED_BYTES} bytes"));
            }
            Ok(text)
        };
        let subject = part("subject")?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        if subject.is_empty() {
            return Err(format!("{}.subject: the subject is empty", content.kind));
        }
        let subject = subject.chars().take(MAX_SUBJECT_CHARACTERS).collect();
        Ok((subject, part("txt")?, part("html")?))
    }

    /// Renders every kind in every language. Returns the problems.
    fn try_out(&self) -> Vec<String> {
        let samples = self.languages().flat_map(sample::contents);
        let bare = self.languages().map(sample::bare_content);
        (samples.chain(bare))
            .filter_map(|content| {
                let error = self.render(&content).err()?;
                Some(format!("{} in {}: {error}", content.kind, content.language))
            })
            .collect()
    }
}

fn environment(language: &str) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let own = language.to_owned();
    environment.add_filter("number", move |number: i64| format::number(&own, number));
    let own = language.to_owned();
    environment.add_filter("datetime", move |time: Value| datetime(&own, &time));
    for (name, source) in BUILT_IN {
        environment
            .add_template_owned(name, source)
            .expect("the built-in templates are valid");
    }
    environment
}

fn datetime(language: &str, time: &Value) -> Result<String, Error> {
    let field = |name| i64::try_from(time.get_attr(name)?);
    let fields = [
        field("year")?,
        field("month")?,
        field("day")?,
        field("hour")?,
        field("minute")?,
    ];
    format::datetime(language, fields)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "datetime needs a time"))
}

/// Template, line and kind of an error. The detail of an error may repeat values, so only errors of
/// syntax and of missing variables keep theirs.
fn describe(error: &Error) -> String {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}:{line}: "),
        (Some(name), None) => format!("{name}: "),
        _ => String::new(),
    };
    let detail = match (error.kind(), error.detail()) {
        (
            ErrorKind::SyntaxError
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownTest
            | ErrorKind::UndefinedError
            | ErrorKind::TemplateNotFound,
            Some(detail),
        ) => format!(": {detail}"),
        _ => String::new(),
    };
    format!("{place}{}{detail}", error.kind()).replace('\n', " ")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: io::Error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // Kubernetes keeps versions of a mounted folder in hidden folders.
        if !path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn name_of(path: &Path) -> Result<String, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| format!("{}: the name is not UTF-8", path.display()))?;
    let kinds = [
        "heist_success",
        "heist_victim",
        "token_earned",
        DIGEST,
        "layout",
    ];
    if let Some((stem, "subject" | "txt" | "html")) = name.rsplit_once('.') {
        let looks_like_a_kind = stem.starts_with("heist") || stem.starts_with("token");
        if looks_like_a_kind && !kinds.contains(&stem) {
            return Err(format!(
                "{}: no e-mail has this name, expected one of {}",
                path.display(),
                kinds.join(", ")
            ));
        }
    }
    Ok(name.to_owned())
}
