//! SendGrid's v3 API: `POST /v3/mail/send`.

use std::{fmt::Write as _, time::Duration};

use hyper::HeaderMap;
use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    Authorities, Proxy, Secret,
    http::{Answer, Endpoint, Failure},
    outcome::{Outcome, ProviderFailure},
    render::RenderedEmail,
};

const PATH: &str = "/v3/mail/send";
/// Pause after a `429` without a valid `Retry-After`.
const DEFAULT_PAUSE: Duration = Duration::from_mins(1);
/// Upper bound of the pause that a `Retry-After` can cause.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// An account at SendGrid.
#[derive(Clone, Debug)]
pub struct SendGrid {
    endpoint: Endpoint,
    key: Secret,
    /// The time limit of one attempt.
    pub(super) timeout: Duration,
}

/// The body of a refusal.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<FieldError>,
}

/// One error of a refusal. Its text is not read, because it may repeat an address.
#[derive(Deserialize)]
struct FieldError {
    field: Option<String>,
}

impl SendGrid {
    /// # Errors
    ///
    /// Returns the expected form of `base_url`.
    pub fn new(
        mut base_url: Url,
        authorities: &Authorities,
        proxy: Option<Proxy>,
        key: Secret,
        timeout: Duration,
    ) -> Result<Self, String> {
        let path = format!("{}{PATH}", base_url.path().trim_end_matches('/'));
        base_url.set_path(&path);
        Ok(Self {
            endpoint: Endpoint::new(base_url, authorities, proxy)?,
            key,
            timeout,
        })
    }

    pub(super) async fn send(
        &self,
        from: &Mailbox,
        email: &RenderedEmail,
        stopping: &CancellationToken,
    ) -> Outcome {
        let authorization = format!("Bearer {}", self.key.reveal());
        let body = body(from, email).to_string().into_bytes();
        let answer = self
            .endpoint
            .post(&authorization, body, self.timeout, stopping)
            .await;
        match answer {
            Ok(answer) => outcome(&answer),
            Err(Failure::NotSent(why)) => Outcome::unreachable(why),
            Err(Failure::Misconfigured(why)) => Outcome::misconfigured(why),
            Err(Failure::NoAnswer(why)) => Outcome::no_answer(why),
            Err(Failure::Stopping) => Outcome::Released,
        }
    }
}

fn body(from: &Mailbox, email: &RenderedEmail) -> Value {
    let mut sender = json!({ "email": from.email.to_string() });
    if let Some(name) = &from.name {
        sender["name"] = json!(name);
    }
    let headers: serde_json::Map<String, Value> = (email.headers().into_iter())
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    json!({
        "personalizations": [{ "to": [{ "email": email.to.to_text() }] }],
        "from": sender,
        "subject": email.subject,
        "content": [
            { "type": "text/plain", "value": email.text },
            { "type": "text/html", "value": email.html },
        ],
        "headers": headers,
        "categories": ["heist"],
        // Operators search SendGrid's activity feed for it when an outcome is unknown.
        "custom_args": { "heist_mail": email.reference },
    })
}

/// The outcome for each status. The e-mail may have been sent if a server or a gateway can answer
/// with the status after it has passed the request on.
fn outcome(answer: &Answer) -> Outcome {
    let reason = describe(answer);
    let not_sent = |reason, provider_failure| Outcome::NotSent {
        reason,
        provider_failure,
    };
    let unknown = |reason, failure| Outcome::Unknown {
        reason,
        provider_failure: Some(failure),
    };
    match answer.status.as_u16() {
        202 => Outcome::Sent,
        429 => {
            let pause = pause(&answer.headers);
            not_sent(reason, Some(ProviderFailure { pause }))
        }
        // Rejected by SendGrid or a proxy before the request was processed.
        300..=302 | 307 | 308 | 401 | 403 | 404 | 405 | 407 | 501 | 505 | 511 => {
            Outcome::misconfigured(reason)
        }
        400 if refuses_the_sender(answer) => Outcome::misconfigured(reason),
        408 | 425 => not_sent(reason, None),
        400..500 => Outcome::Refused { reason },
        _ if !answer.body_sent => not_sent(reason, Some(ProviderFailure::UNREACHABLE)),
        // SendGrid itself says that it does not process requests. From a gateway, 503 also means
        // that the connection to the server was lost after the request.
        503 if is_from_sendgrid(answer) => not_sent(reason, Some(ProviderFailure::UNREACHABLE)),
        500..600 => unknown(reason, ProviderFailure::UNREACHABLE),
        // Another success or redirect: something else than SendGrid's API answers, or the account
        // is in sandbox mode.
        _ => unknown(reason, ProviderFailure::MISCONFIGURED),
    }
}

/// Whether the body has the form of SendGrid's errors.
fn is_from_sendgrid(answer: &Answer) -> bool {
    let body: Option<ErrorBody> = serde_json::from_slice(&answer.body).ok();
    body.is_some_and(|body| !body.errors.is_empty())
}

fn refuses_the_sender(answer: &Answer) -> bool {
    let mut fields = refused_fields(answer).into_iter();
    fields.any(|field| field == "from" || field.starts_with("from."))
}

/// The status, and the names of the refused fields.
fn describe(answer: &Answer) -> String {
    let mut text = format!("HTTP {}", answer.status.as_u16());
    let fields = refused_fields(answer);
    if !fields.is_empty() {
        let _ = write!(text, " of {}", fields.join(", "));
    }
    text
}

/// Up to 5 names of refused fields. A text that does not look like a field name is left out.
fn refused_fields(answer: &Answer) -> Vec<String> {
    let is_name = |field: &String| {
        let part_of_name =
            |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "._".contains(it);
        (1..=60).contains(&field.len()) && field.chars().all(part_of_name)
    };
    let errors: Vec<FieldError> = serde_json::from_slice(&answer.body)
        .map(|body: ErrorBody| body.errors)
        .unwrap_or_default();
    (errors.into_iter())
        .filter_map(|error| error.field)
        .filter(is_name)
        .take(5)
        .collect()
}

fn pause(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok());
    seconds
        .map_or(DEFAULT_PAUSE, Duration::from_secs)
        .clamp(Duration::from_secs(1), MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    const OWN_ERROR: &str = r#"{"errors":[{"message":"unavailable","field":null}]}"#;

    fn answers(status: u16, retry_after: Option<&str>, body: &'static str) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", value.parse().unwrap());
        }
        outcome(&Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body_sent: true,
            body: body.into(),
        })
    }

    #[test]
    fn only_202_means_sent() {
        assert_eq!(answers(202, None, "nonsense"), Outcome::Sent);
        for status in [200, 201, 203, 204, 206, 303, 304] {
            let outcome = answers(status, None, "");
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{status}");
            let failure = outcome.provider_failure();
            assert_eq!(failure, Some(ProviderFailure::MISCONFIGURED), "{status}");
        }
    }

    #[test]
    fn statuses_that_prove_that_nothing_left_cause_a_retry() {
        const UNREACHABLE: Option<ProviderFailure> = Some(ProviderFailure::UNREACHABLE);
        const MISCONFIGURED: Option<ProviderFailure> = Some(ProviderFailure::MISCONFIGURED);
        for (status, body, failure) in [
            (408, "", None),
            (425, "", None),
            (503, OWN_ERROR, UNREACHABLE),
            (301, "", MISCONFIGURED),
            (302, "", MISCONFIGURED),
            (307, "", MISCONFIGURED),
            (401, "", MISCONFIGURED),
            (403, "", MISCONFIGURED),
            (404, "", MISCONFIGURED),
            (405, "", MISCONFIGURED),
            (407, "", MISCONFIGURED),
            (501, "", MISCONFIGURED),
            (505, "", MISCONFIGURED),
            (511, "", MISCONFIGURED),
        ] {
            let outcome = answers(status, None, body);
            assert!(matches!(outcome, Outcome::NotSent { .. }), "{status}");
            assert_eq!(outcome.provider_failure(), failure, "{status}");
        }
    }

    #[test]
    fn errors_that_a_gateway_may_give_after_it_passed_the_request_on_mean_unknown() {
        for (status, body) in [
            (500, ""),
            (500, OWN_ERROR),
            (502, ""),
            (503, ""),
            (
                503,
                "upstream connect error or disconnect/reset before headers",
            ),
            (504, ""),
            (520, ""),
            (599, ""),
        ] {
            let outcome = answers(status, None, body);
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{status}");
        }
    }

    #[test]
    fn an_answer_before_the_body_was_sent_proves_that_nothing_left() {
        for status in [200, 500, 502, 503, 504] {
            let outcome = outcome(&Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body_sent: false,
                body: "".into(),
            });
            assert!(matches!(outcome, Outcome::NotSent { .. }), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_final_and_names_fields_only() {
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
    fn a_refused_sender_means_a_wrong_setting() {
        let body = r#"{"errors": [{"message": "no", "field": "from.email"}]}"#;
        assert_eq!(
            answers(400, None, body).provider_failure(),
            Some(ProviderFailure::MISCONFIGURED)
        );
    }

    #[test]
    fn a_rate_limit_pauses_as_long_as_retry_after_says() {
        for (value, seconds) in [
            (Some("7"), 7),
            (Some("0"), 1),
            (Some("999999999"), 3600),
            (Some("soon"), 60),
            (Some("-1"), 60),
            (None, 60),
        ] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(
                answers(429, value, "").provider_failure(),
                Some(ProviderFailure { pause })
            );
        }
    }
}
