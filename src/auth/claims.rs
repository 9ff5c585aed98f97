//! Which claims of a token identify its caller.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    caller::{Scope, Scopes, Who},
    error::TokenError,
};
use crate::domain::ids::UserId;

/// The maximum length of a service's name in bytes: that of a subject in OpenID Connect.
pub(super) const MAX_SUBJECT_BYTES: usize = 255;

const SUBJECT: &str = "sub";

/// The claims that identify a caller. Identity providers use different ones.
#[derive(Clone, Debug)]
pub struct ClaimNames {
    /// The player's id.
    pub player: ClaimName,
    /// The scopes of a service: an array, or a string with spaces.
    pub scope: ClaimName,
    /// The prefix of this service's scopes; scopes without it are ignored.
    pub scope_prefix: String,
    /// The condition for a token of a service. `None`: if `player` is the claim `sub`, every token
    /// without a player's id is a service's; if it is another claim, there are no services.
    pub service: Option<ServiceRule>,
}

/// The name of a claim; with a leading `/`, a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName(String);

/// A condition that tokens of services meet and tokens of players do not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceRule {
    /// This claim.
    Present(ClaimName),
    /// This claim with this value.
    Equal(ClaimName, String),
    /// Two claims with the same value.
    Same(ClaimName, ClaimName),
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            player: ClaimName(SUBJECT.to_owned()),
            scope: ClaimName("scope".to_owned()),
            scope_prefix: String::new(),
            service: None,
        }
    }
}

impl ClaimName {
    /// # Errors
    ///
    /// The name is empty. The message says what is expected.
    pub fn parse(value: &str) -> Result<Self, String> {
        if value.is_empty() || value.contains(char::is_control) {
            return Err(
                "expected the name of a claim, or a path such as /realm_access/roles".into(),
            );
        }
        Ok(Self(value.to_owned()))
    }

    fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let claim = match self.0.strip_prefix('/') {
            None => claims.get(&self.0),
            Some(path) => {
                let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
                let first = first.replace("~1", "/").replace("~0", "~");
                claims.get(&first)?.pointer(rest)
            }
        };
        claim.filter(|value| !value.is_null())
    }
}

impl ServiceRule {
    /// Parses `CLAIM`, `CLAIM=VALUE` or `CLAIM==CLAIM`.
    ///
    /// # Errors
    ///
    /// A name is empty. The message says what is expected.
    pub fn parse(value: &str) -> Result<Self, String> {
        let expected = || {
            "expected CLAIM, CLAIM=VALUE or CLAIM==CLAIM, such as gty=client-credentials".to_owned()
        };
        let name = |name: &str| ClaimName::parse(name).map_err(|_| expected());
        match (value.split_once("=="), value.split_once('=')) {
            (Some((left, right)), _) => Ok(Self::Same(name(left)?, name(right)?)),
            (None, Some((_, ""))) => Err(expected()),
            (None, Some((left, right))) => Ok(Self::Equal(name(left)?, right.to_owned())),
            (None, None) => Ok(Self::Present(name(value)?)),
        }
    }

    fn holds(&self, claims: &Map<String, Value>) -> bool {
        match self {
            Self::Present(claim) => claim.of(claims).is_some(),
            Self::Equal(claim, value) => {
                (claim.of(claims).and_then(Value::as_str)).is_some_and(|found| found == value)
            }
            Self::Same(left, right) => match (left.of(claims), right.of(claims)) {
                (Some(left), Some(right)) => left == right,
                _ => false,
            },
        }
    }
}

impl ClaimNames {
    /// The caller of a token with these claims.
    pub(super) fn who(&self, claims: &Map<String, Value>) -> Result<Who, TokenError> {
        let subject = claims.get(SUBJECT).and_then(Value::as_str);
        let subject = subject.ok_or(TokenError::Subject)?;
        let scopes = self.scopes(claims);
        if self.player.0 != SUBJECT {
            if let Some(id) = self.player.of(claims) {
                return Ok(Who::Player(player(id).ok_or(TokenError::Subject)?));
            }
        } else if subject.bytes().all(|byte| byte.is_ascii_digit()) {
            let player = canonical(subject).ok_or(TokenError::Subject)?;
            // The claim `sub` of a service could be a number, too, so the scopes are ambiguous.
            if !scopes.is_empty() {
                return Err(TokenError::PlayerWithScopes);
            }
            return Ok(Who::Player(player));
        }
        let is_service = match &self.service {
            Some(rule) => rule.holds(claims),
            None => self.player.0 == SUBJECT,
        };
        if !is_service {
            return Err(TokenError::NeitherPlayerNorService);
        }
        let is_name = subject.len() <= MAX_SUBJECT_BYTES
            && subject.bytes().all(|byte| byte.is_ascii_graphic())
            && subject.bytes().any(|byte| byte.is_ascii_alphanumeric());
        if !is_name || (self.player.0 == SUBJECT && !has_letter(subject)) {
            return Err(TokenError::Subject);
        }
        Ok(Who::Service {
            name: Arc::from(subject),
            scopes,
        })
    }

    fn scopes(&self, claims: &Map<String, Value>) -> Scopes {
        let named = |name: &str| Scope::named(name.strip_prefix(self.scope_prefix.as_str())?);
        match self.scope.of(claims) {
            Some(Value::String(names)) => names.split(' ').filter_map(named).collect(),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                names.filter_map(named).collect()
            }
            _ => Scopes::default(),
        }
    }
}

fn has_letter(subject: &str) -> bool {
    subject.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// A player's id: a number, its digits, or an array of one of these.
fn player(claim: &Value) -> Option<UserId> {
    match claim {
        Value::String(id) => canonical(id),
        Value::Number(id) => UserId::new(id.as_i64()?.try_into().ok()?).ok(),
        Value::Array(values) => match values.as_slice() {
            [Value::Array(_)] => None,
            [only] => player(only),
            _ => None,
        },
        _ => None,
    }
}

/// A player's id in its canonical form: `042` is not a player.
fn canonical(subject: &str) -> Option<UserId> {
    let id: i32 = subject.parse().ok()?;
    UserId::new(id).ok().filter(|id| id.to_string() == subject)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(player: &str, scope: &str, prefix: &str, service: &str) -> ClaimNames {
        ClaimNames {
            player: ClaimName::parse(player).unwrap(),
            scope: ClaimName::parse(scope).unwrap(),
            scope_prefix: prefix.to_owned(),
            service: (!service.is_empty()).then(|| ServiceRule::parse(service).unwrap()),
        }
    }

    fn who(names: &ClaimNames, claims: &Value) -> Result<Who, TokenError> {
        names.who(claims.as_object().unwrap())
    }

    fn is_player(names: &ClaimNames, claims: &Value) {
        let player = Who::Player(UserId::new(42).unwrap());
        assert_eq!(who(names, claims).unwrap(), player, "{claims}");
    }

    fn is_service(names: &ClaimNames, claims: &Value) {
        let Who::Service { name, scopes } = who(names, claims).unwrap() else {
            panic!("{claims} is a player");
        };
        assert_eq!(*name, *claims["sub"].as_str().unwrap());
        let expected: Scopes = [Scope::HeistExecute, Scope::HeistRead]
            .into_iter()
            .collect();
        assert_eq!(scopes, expected, "{claims}");
    }

    fn is_refused(names: &ClaimNames, claims: &Value) {
        let error = who(names, claims).unwrap_err();
        assert!(
            matches!(
                error,
                TokenError::Subject | TokenError::NeitherPlayerNorService
            ),
            "{claims}: {error}"
        );
    }

    /// Tokens in the form of the identity providers in the table of `docs/security.md`, with the
    /// settings of that table. The third token of each is a user's without a player id, who must not
    /// become a service.
    #[test]
    fn tokens_of_identity_providers() {
        let keycloak = names("player_id", "/realm_access/roles", "", "client_id");
        is_player(
            &keycloak,
            &json!({"sub": "f3b0", "azp": "app", "scope": "openid", "player_id": "42",
                "realm_access": {"roles": ["offline_access"]}, "preferred_username": "ada"}),
        );
        is_service(
            &keycloak,
            &json!({"sub": "0d5e", "azp": "web", "client_id": "web", "scope": "profile email",
                "realm_access": {"roles": ["offline_access", "heist.execute", "heist.read"]}}),
        );
        is_refused(
            &keycloak,
            &json!({"sub": "f3b1", "azp": "app", "realm_access": {"roles": ["heist.execute"]}}),
        );

        let auth0 = names(
            "https://example.com/player_id",
            "scope",
            "",
            "gty=client-credentials",
        );
        is_player(
            &auth0,
            &json!({"sub": "auth0|65f", "azp": "x", "scope": "openid heist.read",
                "https://example.com/player_id": 42}),
        );
        is_service(
            &auth0,
            &json!({"sub": "x@clients", "azp": "x", "gty": "client-credentials",
                "scope": "heist.execute heist.read"}),
        );
        is_refused(
            &auth0,
            &json!({"sub": "auth0|65f", "scope": "heist.execute"}),
        );

        let entra = names("extn.playerId", "roles", "", "idtyp=app");
        is_player(
            &entra,
            &json!({"sub": "AAAA", "oid": "1-2", "scp": "heist.read", "extn.playerId": ["42"]}),
        );
        is_service(
            &entra,
            &json!({"sub": "3-4", "oid": "3-4", "idtyp": "app",
                "roles": ["heist.execute", "heist.read"]}),
        );
        is_refused(
            &entra,
            &json!({"sub": "AAAA", "idtyp": "user", "roles": ["heist.execute"]}),
        );

        let cognito = names("custom:player_id", "scope", "heist/", "sub==client_id");
        is_player(
            &cognito,
            &json!({"sub": "9a-b", "client_id": "app", "username": "ada",
                "scope": "openid heist/heist.read", "custom:player_id": "42"}),
        );
        is_service(
            &cognito,
            &json!({"sub": "1h57kf5cpq", "client_id": "1h57kf5cpq", "token_use": "access",
                "scope": "heist/heist.execute heist/heist.read other/token.award token.adjust"}),
        );
        is_refused(
            &cognito,
            &json!({"sub": "9a-b", "client_id": "app", "scope": "heist/heist.execute"}),
        );

        let okta = names("playerId", "scp", "", "sub==cid");
        is_player(
            &okta,
            &json!({"sub": "ada@example.com", "cid": "0oa", "uid": "00u", "scp": ["openid"],
                "playerId": 42}),
        );
        is_service(
            &okta,
            &json!({"sub": "0oa", "cid": "0oa", "scp": ["heist.execute", "heist.read"]}),
        );
        is_refused(
            &okta,
            &json!({"sub": "ada@example.com", "cid": "0oa", "scp": ["heist.execute"]}),
        );
    }

    #[test]
    fn a_player_claim_that_is_no_id_is_refused() {
        let names = names("player", "scope", "", "sub==cid");
        for id in [
            json!(""),
            json!("042"),
            json!("42 "),
            json!(0),
            json!(-42),
            json!(42.5),
            json!(4_294_967_338_i64),
            json!([]),
            json!([42, 43]),
            json!([[42]]),
            json!({"id": 42}),
            json!(true),
        ] {
            is_refused(&names, &json!({"sub": "a", "cid": "a", "player": id}));
        }
    }

    #[test]
    fn without_a_service_rule_another_player_claim_accepts_players_only() {
        let names = names("player", "scope", "", "");
        is_player(&names, &json!({"sub": "ada", "player": 42}));
        is_refused(&names, &json!({"sub": "web", "scope": "heist.execute"}));
    }

    #[test]
    fn rules_and_names_parse() {
        for wrong in ["", "=", "a=", "=a", "==", "a==", "==a"] {
            ServiceRule::parse(wrong).expect_err(wrong);
        }
        ClaimName::parse("").expect_err("empty");
        let claims = json!({"a/b": {"c": 1}, "a": [2, {"b": 3}], "n": null});
        let claims = claims.as_object().unwrap();
        for (name, value) in [
            ("a/b", Some(json!({"c": 1}))),
            ("/a~1b/c", Some(json!(1))),
            ("/a/0", Some(json!(2))),
            ("/a/1/b", Some(json!(3))),
            ("/a", Some(json!([2, {"b": 3}]))),
            ("/a/9", None),
            ("n", None),
            ("/", None),
        ] {
            assert_eq!(
                ClaimName::parse(name).unwrap().of(claims),
                value.as_ref(),
                "{name}"
            );
        }
    }
}
