//! A call that was refused, and changed nothing.

use std::{fmt::Debug, future::Future, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use super::{World, snapshot};

/// An error that a caller was given.
pub struct Refusal {
    status: Status,
    details: ErrorDetails,
}

impl World {
    /// Makes a call that has to fail, and checks that it leaves no trace in any table.
    pub async fn refuses<T: Debug>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Refusal {
        let before = snapshot(&self.pool).await;
        let status = call.await.expect_err("it should have been refused");
        let after = snapshot(&self.pool).await;
        assert_eq!(
            before, after,
            "a refused call changed something: {status:?}"
        );
        Refusal::from(status)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let refusal = Self { status, details };
        refusal.tells_nothing_of_the_inside();
        refusal
    }
}

impl Refusal {
    /// Checks the code and the reason that programs compare.
    #[track_caller]
    pub fn is(self, code: Code, reason: &str) -> Self {
        assert_eq!(self.status.code(), code, "{:?}", self.status);
        let info = (self.details.error_info()).expect("a refusal carries ErrorInfo");
        assert_eq!(info.reason, reason, "{:?}", self.status);
        assert_eq!(info.domain, "heist.v1");
        let message = self.status.message();
        assert!(message.ends_with('.'), "not a sentence: {message}");
        self
    }

    /// Checks that a request is called malformed because of exactly these fields.
    #[track_caller]
    pub fn names(self, fields: &[&str]) -> Self {
        let refusal = self.is(Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(refusal.fields(), fields, "{:?}", refusal.status);
        refusal
    }

    /// Checks that the page token is called wrong.
    #[track_caller]
    pub fn names_the_page_token(self) {
        let refusal = self.is(Code::InvalidArgument, "INVALID_PAGE_TOKEN");
        assert_eq!(refusal.fields(), ["page_token"]);
    }

    /// Checks that nothing is told but an id to look up.
    #[track_caller]
    pub fn tells_only_an_incident(self) {
        assert_eq!(self.status.code(), Code::Internal, "{:?}", self.status);
        let incident = (self.status.message())
            .strip_prefix("Internal error ")
            .and_then(|rest| rest.strip_suffix('.'));
        assert!(incident.is_some_and(|id| Uuid::try_parse(id).is_ok()));
    }

    /// A fact of the metadata.
    #[track_caller]
    pub fn fact(&self, name: &str) -> &str {
        let info = (self.details.error_info()).expect("a refusal carries ErrorInfo");
        info.metadata
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", info.metadata))
    }

    /// How long the caller is told to wait.
    #[track_caller]
    pub fn wait(&self) -> Duration {
        (self.details.retry_info())
            .and_then(|info| info.retry_delay)
            .expect("it says when to come back")
    }

    pub fn has_no_wait(&self) -> bool {
        self.details.retry_info().is_none()
    }

    pub fn code(&self) -> Code {
        self.status.code()
    }

    pub fn message(&self) -> &str {
        self.status.message()
    }

    pub fn fields(&self) -> Vec<&str> {
        let request = (self.details.bad_request()).expect("it says which field");
        (request.field_violations.iter())
            .map(|violation| {
                assert!(!violation.description.is_empty());
                violation.field.as_str()
            })
            .collect()
    }

    fn tells_nothing_of_the_inside(&self) {
        let told = format!("{:?}", self.status).to_lowercase();
        for secret in [
            "sqlx",
            "sqlstate",
            "postgres",
            "\"user\"",
            "constraint",
            "src/",
            "panicked",
        ] {
            assert!(!told.contains(secret), "tells {secret}: {told}");
        }
    }
}
