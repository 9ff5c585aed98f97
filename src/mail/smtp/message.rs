//! The message of an e-mail: headers and body, as they are sent after DATA.

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};

use super::super::render::RenderedEmail;

/// Builds the message, with dots escaped and without the line that ends it.
///
/// # Errors
///
/// Returns why the library cannot build it.
pub(super) fn build(from: &Mailbox, email: &RenderedEmail) -> Result<Vec<u8>, String> {
    let domain = from.email.domain();
    let to = Address::new_dangerous(email.to.local(), email.to.domain());
    let mut message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(&email.subject)
        // Operators look up the id in the server's log when an outcome is unknown.
        .message_id(Some(format!(
            "<heist.{}@{domain}>",
            email.reference.replace('/', ".")
        )))
        .multipart(MultiPart::alternative_plain_html(
            email.text.clone(),
            email.html.clone(),
        ))
        .map_err(|error| error.to_string())?;
    for (name, value) in email.headers() {
        let name = HeaderName::new_from_ascii_str(name);
        message
            .headers_mut()
            // Values are printable ASCII, and shorter than a line may be.
            .insert_raw(HeaderValue::dangerous_new_pre_encoded(
                name,
                value.clone(),
                value,
            ));
    }
    Ok(escape_dots(&message.formatted()))
}

/// Doubles a dot at the beginning of a line (RFC 5321, section 4.5.2), and ends the last line.
fn escape_dots(message: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(message.len() + 2);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            escaped.push(b'.');
        }
        escaped.extend_from_slice(line);
    }
    if !escaped.ends_with(b"\r\n") {
        escaped.extend_from_slice(b"\r\n");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_message_ends_it() {
        let escaped = escape_dots(b".\r\na\r\n..b\r\n.");
        assert_eq!(escaped, b"..\r\na\r\n...b\r\n..\r\n");
    }
}
