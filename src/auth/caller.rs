//! The identity of a caller, and the scopes of services.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::domain::ids::UserId;

/// The caller of an RPC. Each request of the three services has it in its extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    pub who: Who,
    /// When the caller's token expires, which ends its streams; `None`: never.
    pub valid_until: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Callers are not authenticated.
    Unauthenticated,
    /// A service, which can act for any player within its scopes.
    Service { name: Arc<str>, scopes: Scopes },
    /// A player, who can only act for themselves.
    Player(UserId),
}

/// A permission of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    HeistExecute,
    HeistRead,
    TokenAward,
    TokenRead,
    TokenAdjust,
    NotificationRead,
    NotificationWrite,
    /// To tell the address of the player for whom it calls. No RPC needs it.
    AddressForward,
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Caller {
    /// The caller of a server without authentication.
    pub const UNAUTHENTICATED: Self = Self {
        who: Who::Unauthenticated,
        valid_until: None,
    };
}

/// The name of the caller in the audit log and in the tables.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str("unauthenticated caller"),
            Self::Service { name, .. } => write!(f, "service {name}"),
            Self::Player(user_id) => write!(f, "player {user_id}"),
        }
    }
}

impl Scope {
    pub const ALL: [Self; 8] = [
        Self::HeistExecute,
        Self::HeistRead,
        Self::TokenAward,
        Self::TokenRead,
        Self::TokenAdjust,
        Self::NotificationRead,
        Self::NotificationWrite,
        Self::AddressForward,
    ];

    /// The name in the claim `scope`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HeistExecute => "heist.execute",
            Self::HeistRead => "heist.read",
            Self::TokenAward => "token.award",
            Self::TokenRead => "token.read",
            Self::TokenAdjust => "token.adjust",
            Self::NotificationRead => "notification.read",
            Self::NotificationWrite => "notification.write",
            Self::AddressForward => "address.forward",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl Scopes {
    /// The scopes of a claim, separated by spaces. Unknown scopes are ignored, because the issuer may
    /// serve other audiences, too.
    #[must_use]
    pub fn of_claim(claim: &str) -> Self {
        claim.split(' ').filter_map(Scope::named).collect()
    }

    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}
