//! Renders the samples, for `heist emails preview`.

use super::{sample, templates::Templates};

/// A rendered sample.
#[derive(Clone, Debug)]
pub struct Preview {
    pub language: String,
    pub kind: &'static str,
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Renders each kind of e-mail in each language.
///
/// # Errors
///
/// Names the template and the line that failed.
pub fn previews(templates: &Templates) -> Result<Vec<Preview>, String> {
    let contents = templates.languages().flat_map(sample::contents);
    contents
        .map(|content| {
            let (subject, text, html) = templates.render(&content)?;
            Ok(Preview {
                language: content.language,
                kind: content.kind,
                subject,
                text,
                html,
            })
        })
        .collect()
}
