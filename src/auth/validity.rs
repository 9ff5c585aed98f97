//! The end of a certificate's validity.

use std::time::SystemTime;

use time::{Date, Month, PrimitiveDateTime, Time};

/// The tags of ASN.1 that lead to the validity (RFC 5280, section 4.1).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate in DER expires; `None` if it is malformed.
#[must_use]
pub fn end(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(der)?;
    let (tag, mut rest, _) = element(certificate)?;
    if tag != SEQUENCE {
        return None;
    }
    // The version is optional. The serial number, the algorithm and the issuer follow.
    if let (VERSION, _, after) = element(rest)? {
        rest = after;
    }
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    moment(tag, text)
}

/// The tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        let length = bytes
            .iter()
            .fold(0, |all, byte| all << 8 | usize::from(*byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time such as `260131235959Z` or `20600131235959Z`.
fn moment(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 } else { 1900 } + year, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (year.parse().ok()?, text)
        }
        _ => return None,
    };
    let number = |place: usize| text.get(place..place + 2)?.parse::<u8>().ok();
    let month = Month::try_from(number(0)?).ok()?;
    let date = Date::from_calendar_date(year, month, number(2)?).ok()?;
    let time = Time::from_hms(number(4)?, number(6)?, number(8)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for not_after in [
            datetime!(2049-12-31 23:59:59 UTC),
            datetime!(2050-01-01 0:00 UTC),
            datetime!(1999-02-28 12:30:01 UTC),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["a.b".to_owned()]).unwrap();
            params.not_before = datetime!(1990-01-01 0:00 UTC);
            params.not_after = not_after;
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(end(certificate.der()), Some(not_after.into()));
        }
    }

    #[test]
    fn a_malformed_certificate_has_no_end() {
        let mut params = rcgen::CertificateParams::new(vec!["a.b".to_owned()]).unwrap();
        params.not_after = datetime!(2049-12-31 23:59:59 UTC);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        for length in 0..certificate.der().len().min(200) {
            assert_eq!(end(&certificate.der()[..length]), None);
        }
        assert_eq!(end(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(end(&[0x30, 0x80]), None);
    }
}
