//! Replies of an SMTP server (RFC 5321, section 4.2).

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Longest line of a reply, in bytes. RFC 5321 allows 512; servers with longer texts exist.
const MAX_LINE_BYTES: usize = 2048;
/// Maximum number of lines of one reply.
const MAX_LINES: usize = 100;

/// A complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The texts of all lines. They may repeat addresses and must not be logged.
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// Reads one reply. Keeps at most [`MAX_LINES`] lines of [`MAX_LINE_BYTES`] bytes in memory.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without any text of the server.
    pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Self, String> {
        let mut lines = Vec::new();
        while lines.len() < MAX_LINES {
            let mut line = Vec::new();
            let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
            (&mut *stream)
                .take(limit)
                .read_until(b'\n', &mut line)
                .await
                .map_err(|error| error.kind().to_string())?;
            if !line.ends_with(b"\n") {
                return Err(if line.len() < MAX_LINE_BYTES {
                    "the connection was closed".to_owned()
                } else {
                    "a line of the reply is too long".to_owned()
                });
            }
            let (code, text, is_last) = parse_line(&line).ok_or("the reply is not SMTP")?;
            lines.push(text);
            if is_last {
                return Ok(Self { code, lines });
            }
        }
        Err("the reply has too many lines".to_owned())
    }

    pub(super) fn is_permanent(&self) -> bool {
        self.code >= 500
    }
}

/// The code, the text, and whether the line is the last one. `250` without a text is a last line.
fn parse_line(line: &[u8]) -> Option<(u16, String, bool)> {
    let line = line.trim_ascii_end();
    let (digits, rest) = line.split_at_checked(3)?;
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    if !(200..600).contains(&code) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (separator, text) = match rest.split_first() {
        None => (b' ', &[][..]),
        Some((separator, text)) => (*separator, text),
    };
    if !matches!(separator, b' ' | b'-') {
        return None;
    }
    let text = String::from_utf8_lossy(text).trim().to_owned();
    Some((code, text, separator == b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> Result<Reply, String> {
        Reply::read(&mut &text[..]).await
    }

    #[tokio::test]
    async fn replies_as_servers_send_them() {
        for (text, code, lines) in [
            ("250 OK\r\n", 250, &["OK"][..]),
            ("250\r\n", 250, &[""]),
            ("250 \r\n", 250, &[""]),
            ("250 OK\n", 250, &["OK"]),
            ("250-one\r\n250-\r\n250 two\r\n", 250, &["one", "", "two"]),
            ("250-one\r\n250\r\n", 250, &["one", ""]),
            ("421 closing\r\n250 late\r\n", 421, &["closing"]),
        ] {
            let reply = read(text.as_bytes()).await.unwrap();
            assert_eq!(reply.code, code, "{text:?}");
            assert_eq!(reply.lines, lines, "{text:?}");
        }
        assert_eq!(read(b"250 \xff\r\n").await.unwrap().code, 250);
    }

    #[tokio::test]
    async fn other_texts_are_refused_within_bounds() {
        let endless = vec![b'2'; 1 << 20];
        let many = b"250-x\r\n".repeat(1000);
        for text in [
            &b""[..],
            b"250 OK",
            b"25\r\n",
            b"+25 x\r\n",
            b"099 x\r\n",
            b"600 x\r\n",
            b"250_x\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"\r\n",
            &endless,
            &many,
        ] {
            assert!(read(text).await.is_err());
        }
    }
}
