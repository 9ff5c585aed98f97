//! A file of the archive: JSON Lines, compressed with gzip.
//!
//! The first line names the format and the kind of rows. The last line holds the number of rows and
//! the SHA-256 of all lines before it. A file without a last line is incomplete.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::store::archive::{Contents, Kind};

const FORMAT: &str = "heist-archive";
const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    /// The kind of the rows.
    kind: String,
    /// All rows were created before this time, in seconds since 1970.
    created_before: i64,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    rows: i64,
    sha256: String,
}

/// The ids in a row. Keys are the names of the columns.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: i64,
    user_id: Option<i32>,
    attacker_id: Option<i32>,
    victim_id: Option<i32>,
}

/// One row of a file.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: String,
    /// The ids of the players of this row.
    pub(super) players: Vec<i32>,
}

/// The reason why a file is not a valid archive.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the file is not an archive of this service")]
    Foreign,
    #[error("a newer version of this program has written the file, in version {0} of the format")]
    Newer(u32),
    #[error("the file ends early: it was never finished")]
    Unfinished,
    #[error("line {0} is not a row, or its id is out of order")]
    Line(i64),
    #[error("the file has {found} rows, but its last line says {said}")]
    Count { said: i64, found: i64 },
    #[error("the checksum in the last line is wrong")]
    Checksum,
}

impl Damage {
    /// Whether the file could be read.
    pub(super) fn is_in_contents(&self) -> bool {
        match self {
            Self::Io(cause) => matches!(
                cause.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::UnexpectedEof
            ),
            _ => true,
        }
    }
}

/// Writes a new file.
pub(super) struct Writer {
    output: GzEncoder<BufWriter<File>>,
    digest: Sha256,
    rows: i64,
}

impl Writer {
    /// # Errors
    ///
    /// An error of the file system, also if the file exists.
    pub(super) fn create(path: &Path, kind: Kind, cutoff: OffsetDateTime) -> io::Result<Self> {
        let file = BufWriter::new(File::create_new(path)?);
        let mut writer = Self {
            output: GzEncoder::new(file, Compression::default()),
            digest: Sha256::new(),
            rows: 0,
        };
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            kind: kind.name().to_owned(),
            created_before: cutoff.unix_timestamp(),
        };
        writer.write(&serde_json::to_string(&header)?)?;
        Ok(writer)
    }

    /// Appends a row. The caller appends rows in the order of their ids.
    pub(super) fn push(&mut self, line: &str) -> io::Result<()> {
        self.rows += 1;
        self.write(line)
    }

    pub(super) fn rows(&self) -> i64 {
        self.rows
    }

    /// Writes the last line, waits until the disk has the file, and returns the checksum.
    pub(super) fn finish(mut self) -> io::Result<String> {
        let sha256 = hexadecimal(self.digest.clone());
        let footer = Footer {
            rows: self.rows,
            sha256: sha256.clone(),
        };
        self.write(&serde_json::to_string(&footer)?)?;
        let file = self.output.finish()?.into_inner()?;
        file.sync_all()?;
        Ok(sha256)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        for part in [line.as_bytes(), b"\n"] {
            self.digest.update(part);
            self.output.write_all(part)?;
        }
        Ok(())
    }
}

/// Reads a file from its first row to its last, and validates it on the way.
pub(super) struct Reader {
    input: BufReader<MultiGzDecoder<BufReader<File>>>,
    digest: Sha256,
    /// The line that was read last. The next read decides whether it is a row or the last line.
    held: String,
    rows: i64,
    first_row_id: i64,
    last_row_id: i64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Damage> {
        let file = BufReader::new(File::open(path)?);
        let mut reader = Self {
            input: BufReader::new(MultiGzDecoder::new(file)),
            digest: Sha256::new(),
            held: String::new(),
            rows: 0,
            first_row_id: 0,
            last_row_id: 0,
        };
        let first = reader.next_line()?.ok_or(Damage::Foreign)?;
        let header: Header = serde_json::from_str(&first).map_err(|_| Damage::Foreign)?;
        if header.format != FORMAT {
            return Err(Damage::Foreign);
        }
        if header.version > VERSION {
            return Err(Damage::Newer(header.version));
        }
        reader.hash(&first);
        reader.held = reader.next_line()?.ok_or(Damage::Unfinished)?;
        Ok(reader)
    }

    /// The next row. `None` after the last row of a valid file.
    pub(super) fn next_row(&mut self) -> Result<Option<Row>, Damage> {
        let Some(following) = self.next_line()? else {
            return self.check_footer().map(|()| None);
        };
        let line = std::mem::replace(&mut self.held, following);
        self.hash(&line);
        self.rows += 1;
        let key: Key = serde_json::from_str(&line).map_err(|_| Damage::Line(self.rows + 1))?;
        if key.id <= self.last_row_id {
            return Err(Damage::Line(self.rows + 1));
        }
        if self.rows == 1 {
            self.first_row_id = key.id;
        }
        self.last_row_id = key.id;
        let players = [key.user_id, key.attacker_id, key.victim_id];
        Ok(Some(Row {
            line,
            players: players.into_iter().flatten().collect(),
        }))
    }

    /// Reads the rest of the file, and returns a summary of the whole file.
    pub(super) fn verify(mut self) -> Result<Contents, Damage> {
        while self.next_row()?.is_some() {}
        Ok(Contents {
            rows: self.rows,
            sha256: hexadecimal(self.digest),
            first_row_id: self.first_row_id,
            last_row_id: self.last_row_id,
        })
    }

    fn check_footer(&self) -> Result<(), Damage> {
        let footer: Footer = serde_json::from_str(&self.held).map_err(|_| Damage::Unfinished)?;
        if footer.rows != self.rows {
            return Err(Damage::Count {
                said: footer.rows,
                found: self.rows,
            });
        }
        if footer.sha256 != hexadecimal(self.digest.clone()) {
            return Err(Damage::Checksum);
        }
        Ok(())
    }

    /// The next line without its line break. `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<String>, Damage> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) if line.ends_with('\n') => {
                line.pop();
                Ok(Some(line))
            }
            Ok(_) => Err(Damage::Unfinished),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Damage::Unfinished),
            Err(error) => Err(error.into()),
        }
    }

    fn hash(&mut self, line: &str) {
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
    }
}

fn hexadecimal(digest: Sha256) -> String {
    use std::fmt::Write as _;
    let mut digits = String::new();
    for byte in digest.finalize() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
