//! Why a caller is not authenticated.

use jsonwebtoken::errors;

/// The maximum length of a token in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why a caller is not authenticated. The text is for the caller.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("A client certificate is required.")]
    NoCertificate,
    #[error("A bearer token is required.")]
    NoToken,
    #[error("The authorization header must be one bearer token.")]
    NoBearerToken,
    #[error("{}", .0.for_the_caller())]
    Token(#[from] TokenError),
}

/// Why a token is not valid.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("no key has its algorithm and key id")]
    UnknownKey,
    #[error("it requires unknown extensions (crit)")]
    UnknownExtension,
    #[error(transparent)]
    Invalid(#[from] errors::Error),
    #[error("the subject is neither a player's id nor the name of a service")]
    Subject,
    #[error("the token has neither a player's id nor the claim of a service")]
    NeitherPlayerNorService,
    #[error("a player's token has scopes, which are for services")]
    PlayerWithScopes,
}

impl TokenError {
    /// The message for the caller. It explains what the caller can correct, and nothing that helps to
    /// forge a token.
    pub(super) fn for_the_caller(&self) -> &'static str {
        match self {
            Self::Invalid(error) => match error.kind() {
                errors::ErrorKind::ExpiredSignature => "The token has expired.",
                errors::ErrorKind::ImmatureSignature => "The token is not valid yet.",
                errors::ErrorKind::InvalidAudience => "The token is for another audience.",
                errors::ErrorKind::InvalidIssuer => "The token is of another issuer.",
                _ => "The token is not valid.",
            },
            Self::PlayerWithScopes => "A token is either a player's or has scopes.",
            _ => "The token is not valid.",
        }
    }
}
