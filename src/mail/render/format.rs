//! Numbers and times as the readers of a language write them.

/// Groups digits by thousands.
pub(super) fn number(language: &str, number: i64) -> String {
    let separator = match language_code(language) {
        "en" | "he" | "ja" | "ko" | "th" | "zh" => ",",
        "da" | "de" | "el" | "es" | "id" | "it" | "nl" | "pt" | "ro" | "tr" | "vi" => ".",
        // A no-break space.
        _ => "\u{a0}",
    };
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push_str(separator);
        }
        grouped.push(digit);
    }
    grouped
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats a time in UTC, to the minute. `None`: the month does not exist.
pub(super) fn datetime(
    language: &str,
    [year, month, day, hour, minute]: [i64; 5],
) -> Option<String> {
    let name = MONTHS.get(usize::try_from(month - 1).ok()?)?;
    let date = match language_code(language) {
        "en" => format!("{day} {name} {year}"),
        "cs" | "da" | "de" | "et" | "fi" | "lv" | "no" | "nb" | "pl" | "ro" | "ru" | "sk"
        | "tr" | "uk" => format!("{day:02}.{month:02}.{year}"),
        "el" | "es" | "fr" | "he" | "id" | "it" | "pt" | "th" | "vi" => {
            format!("{day:02}/{month:02}/{year}")
        }
        "nl" => format!("{day:02}-{month:02}-{year}"),
        _ => {
            return Some(format!(
                "{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC"
            ));
        }
    };
    Some(format!("{date}, {hour:02}:{minute:02} UTC"))
}

/// `de` of `de-AT`.
fn language_code(language: &str) -> &str {
    language.split(['-', '_']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (language, value, expected) in [
            ("en", 0, "0"),
            ("en", 999, "999"),
            ("en", 1000, "1,000"),
            ("de-AT", 1_234_567, "1.234.567"),
            ("fr", -12_345, "-12\u{a0}345"),
        ] {
            assert_eq!(number(language, value), expected);
        }
    }

    #[test]
    fn times_follow_the_language() {
        let time = [2026, 3, 5, 7, 8];
        for (language, expected) in [
            ("en", "5 March 2026, 07:08 UTC"),
            ("de_CH", "05.03.2026, 07:08 UTC"),
            ("es", "05/03/2026, 07:08 UTC"),
            ("nl", "05-03-2026, 07:08 UTC"),
            ("ja", "2026-03-05 07:08 UTC"),
        ] {
            assert_eq!(datetime(language, time).unwrap(), expected);
        }
        assert_eq!(datetime("en", [2026, 13, 1, 0, 0]), None);
    }
}
