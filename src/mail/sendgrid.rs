//! SendGrid's v3 API: `POST /v3/mail/send`.

use std::{fmt::Write as _, time::Duration};

use hyper::{HeaderMap, StatusCode};
use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    Authorities, Secret,
    http::{Answer, Endpoint, Failure},
    letter::Letter,
    outcome::{Outcome, Trouble},
};

const PATH: &str = "/v3/mail/send";
/// Where `429` does not say how long to wait.
const USUAL_WAIT: Duration = Duration::from_mins(1);
/// Longer is not believed.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// An account at SendGrid.
#[derive(Clone, Debug)]
pub struct SendGrid {
    endpoint: Endpoint,
    key: Secret,
    /// The longest that a request takes.
    pub(super) timeout: Duration,
}

/// What SendGrid says of a request that it refuses.
#[derive(Deserialize)]
struct Complaints {
    errors: Vec<Complaint>,
}

/// Its text may repeat an address, so that only the field counts.
#[derive(Deserialize)]
struct Complaint {
    field: Option<String>,
}

impl SendGrid {
    /// # Errors
    ///
    /// Says what is expected of `base_url`.
    pub fn new(
        mut base_url: Url,
        authorities: &Authorities,
        key: Secret,
        timeout: Duration,
    ) -> Result<Self, String> {
        let path = format!("{}{PATH}", base_url.path().trim_end_matches('/'));
        base_url.set_path(&path);
        Ok(Self {
            endpoint: Endpoint::new(base_url, authorities)?,
            key,
            timeout,
        })
    }

    pub(super) async fn send(
        &self,
        from: &Mailbox,
        letter: &Letter,
        stopping: &CancellationToken,
    ) -> Outcome {
        let authorization = format!("Bearer {}", self.key.reveal());
        let body = body(from, letter).to_string().into_bytes();
        let answer = self
            .endpoint
            .post(&authorization, body, self.timeout, stopping)
            .await;
        match answer {
            Ok(answer) => outcome(&answer),
            Err(Failure::NotSent(why)) => Outcome::unreachable(why),
            Err(Failure::NoAnswer(why)) => Outcome::no_answer(why),
            Err(Failure::Stopping) => Outcome::Released,
        }
    }
}

fn body(from: &Mailbox, letter: &Letter) -> Value {
    let mut sender = json!({ "email": from.email.to_string() });
    if let Some(name) = &from.name {
        sender["name"] = json!(name);
    }
    let headers: serde_json::Map<String, Value> = (letter.headers().into_iter())
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    json!({
        "personalizations": [{ "to": [{ "email": letter.to.to_string() }] }],
        "from": sender,
        "subject": letter.subject,
        "content": [
            { "type": "text/plain", "value": letter.text },
            { "type": "text/html", "value": letter.html },
        ],
        "headers": headers,
        "categories": ["heist"],
        // To find it there, when we do not know whether it left.
        "custom_args": { "heist_mail": letter.reference },
    })
}

fn outcome(answer: &Answer) -> Outcome {
    let reason = || describe(answer);
    match answer.status {
        status if status.is_success() => Outcome::Sent,
        StatusCode::TOO_MANY_REQUESTS => Outcome::NotSent {
            reason: reason(),
            trouble: Some(Trouble {
                pause: wait(&answer.headers),
            }),
        },
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED => Outcome::closed(reason()),
        status if status.is_redirection() => Outcome::closed(reason()),
        StatusCode::BAD_REQUEST if complains_of_the_sender(answer) => Outcome::closed(reason()),
        StatusCode::REQUEST_TIMEOUT => Outcome::NotSent {
            reason: reason(),
            trouble: None,
        },
        // Something in between speaks for a server that may have taken it.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Outcome::Unknown {
            reason: reason(),
            trouble: Some(Trouble::AWAY),
        },
        StatusCode::SERVICE_UNAVAILABLE => Outcome::NotSent {
            reason: reason(),
            trouble: Some(Trouble::AWAY),
        },
        status if status.is_server_error() => Outcome::NotSent {
            reason: reason(),
            trouble: None,
        },
        _ => Outcome::Refused { reason: reason() },
    }
}

fn complains_of_the_sender(answer: &Answer) -> bool {
    let mut fields = complaints(answer).into_iter();
    fields.any(|field| field == "from" || field.starts_with("from."))
}

/// The status, and the fields that are complained of.
fn describe(answer: &Answer) -> String {
    let mut text = format!("HTTP {}", answer.status.as_u16());
    let fields = complaints(answer);
    if !fields.is_empty() {
        let _ = write!(text, " of {}", fields.join(", "));
    }
    text
}

/// Names of fields, as far as they look like some.
fn complaints(answer: &Answer) -> Vec<String> {
    let is_name = |field: &String| {
        let part_of_name =
            |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "._".contains(it);
        (1..=60).contains(&field.len()) && field.chars().all(part_of_name)
    };
    let complaints: Vec<Complaint> = serde_json::from_slice(&answer.body)
        .map(|complaints: Complaints| complaints.errors)
        .unwrap_or_default();
    (complaints.into_iter())
        .filter_map(|complaint| complaint.field)
        .filter(is_name)
        .take(5)
        .collect()
}

fn wait(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok());
    seconds
        .map_or(USUAL_WAIT, Duration::from_secs)
        .clamp(Duration::from_secs(1), LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(status: u16, retry_after: Option<&str>, body: &'static str) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", value.parse().unwrap());
        }
        outcome(&Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.into(),
        })
    }

    #[test]
    fn what_was_taken_is_sent_whatever_else_the_answer_says() {
        for status in [200, 202, 204] {
            assert_eq!(answers(status, None, "nonsense"), Outcome::Sent);
        }
    }

    #[test]
    fn what_surely_was_not_taken_is_tried_again() {
        for (status, trouble) in [
            (408, None),
            (500, None),
            (501, None),
            (503, Some(Trouble::AWAY)),
            (301, Some(Trouble::CLOSED)),
            (401, Some(Trouble::CLOSED)),
            (403, Some(Trouble::CLOSED)),
            (404, Some(Trouble::CLOSED)),
        ] {
            let outcome = answers(status, None, "");
            assert!(matches!(outcome, Outcome::NotSent { .. }), "{status}");
            assert_eq!(outcome.trouble(), trouble, "{status}");
        }
    }

    #[test]
    fn what_a_gateway_may_have_passed_on_is_unknown() {
        for status in [502, 504] {
            let outcome = answers(status, None, "");
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_final_and_tells_the_fields_alone() {
        let body = r#"{"errors": [
            {"message": "ada@example.com is bad", "field": "personalizations.0.to.0.email"},
            {"message": "no field", "field": null},
            {"message": "a lie", "field": "ada@example.com"}
        ]}"#;
        assert_eq!(
            answers(400, None, body),
            Outcome::Refused {
                reason: "HTTP 400 of personalizations.0.to.0.email".to_owned()
            }
        );
        for status in [400, 402, 413, 422] {
            let refused = Outcome::Refused {
                reason: format!("HTTP {status}"),
            };
            assert_eq!(answers(status, None, "<html>"), refused);
        }
    }

    #[test]
    fn a_sender_that_is_not_accepted_is_a_matter_of_settings() {
        let body = r#"{"errors": [{"message": "no", "field": "from.email"}]}"#;
        assert_eq!(answers(400, None, body).trouble(), Some(Trouble::CLOSED));
    }

    #[test]
    fn a_rate_limit_says_how_long_to_wait() {
        for (value, seconds) in [
            (Some("7"), 7),
            (Some("0"), 1),
            (Some("999999999"), 3600),
            (Some("soon"), 60),
            (Some("-1"), 60),
            (None, 60),
        ] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(answers(429, value, "").trouble(), Some(Trouble { pause }));
        }
    }
}
