//! Identifiers, each a type of its own, so that one cannot be passed for another.

use std::fmt;

use uuid::Uuid;

/// The error of a number that is not an identifier, because it is zero or negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a positive id")]
pub struct InvalidId(i64);

/// Defines an identifier of a row: a positive number.
macro_rules! row_id {
    ($(#[$doc:meta])+ $name:ident: $number:ty) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($number);

        impl $name {
            /// The smallest identifier.
            pub const MIN: Self = Self(1);

            /// The identifier with this number.
            ///
            /// # Errors
            ///
            /// [`InvalidId`] unless the number is positive.
            pub fn new(number: $number) -> Result<Self, InvalidId> {
                if number > 0 {
                    Ok(Self(number))
                } else {
                    Err(InvalidId(number.into()))
                }
            }

            #[must_use]
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

row_id! {
    /// A player: the application's `"User"."id"`.
    UserId: i32
}
row_id! {
    /// A heist. Heists, awards and adjustments draw their ids from one sequence under the player's
    /// row lock, so that the ids of one player's token events grow in commit order.
    HeistId: i64
}
row_id! {
    /// A token that a referral earned.
    AwardId: i64
}
row_id! {
    /// An adjustment of a token balance by hand.
    AdjustmentId: i64
}
row_id! {
    /// A notification. The ids of one player's notifications grow in commit order.
    NotificationId: i64
}

/// The idempotency key of a call: chosen by the caller, or by the service if the caller sent none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    #[must_use]
    pub const fn get(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
