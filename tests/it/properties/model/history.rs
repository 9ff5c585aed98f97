//! What was called and what was answered: the words in which the model, the callers and the
//! explanation talk about it.

use std::time::Duration;

use uuid::Uuid;

/// A call of one caller. Players are named by their ids.
#[derive(Clone, Debug)]
pub enum Call {
    Rob {
        attacker: i32,
        victim: i32,
        request_id: Option<Uuid>,
    },
    Award {
        referrer: i32,
        referred: i32,
    },
    Adjust {
        user: i32,
        delta: i32,
        request_id: Uuid,
    },
    /// Marks notifications as read: those up to one, or these.
    Mark {
        user: i32,
        up_to: i64,
        ids: Vec<i64>,
    },
    /// The application deletes the account.
    Delete {
        user: i32,
    },
    Read(Read),
}

/// A call that changes nothing.
#[derive(Clone, Debug)]
pub enum Read {
    Balance(i32),
    Balances(Vec<i32>),
    Statement(i32),
    Heist(i64),
    Heists(i32),
    Stats(i32),
    Eligibility { attacker: i32, victims: Vec<i32> },
    Leaderboard,
    Notifications(i32),
    UnreadCount(i32),
}

/// A call and its outcome.
#[derive(Clone, Debug)]
pub struct Operation {
    #[expect(dead_code, reason = "a report shows it")]
    pub caller: usize,
    pub call: Call,
    /// Since the history began.
    pub invoked: Duration,
    /// `None`: never, so that it may have happened at any time since, or not at all.
    pub answered: Option<Duration>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It changed the books.
    Done(Answer),
    /// It changed nothing, and was decided with its players locked.
    Judged(Answer),
    /// It changed nothing, and tells this about players, each as they were at some moment.
    Saw(Vec<Fact>),
    /// The connection or the database failed before an answer came.
    Unresolved,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Robbed(Robbed),
    Account {
        account: Account,
        repeated: bool,
    },
    Marked {
        marked: i32,
        unread: i32,
    },
    Deleted,
    /// With this reason.
    Refused(String),
}

/// The numbers of a heist. A player who was deleted since has the id 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Robbed {
    pub id: i64,
    pub attacker: i32,
    pub victim: i32,
    pub stolen: i32,
    pub attacker_before: i32,
    pub attacker_after: i32,
    pub victim_before: i32,
    pub victim_after: i32,
    pub tokens_remaining: i32,
    pub replayed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Account {
    pub balance: i32,
    pub earned: i32,
    pub spent: i32,
}

/// A notification, without its words.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub id: i64,
    pub kind: NoteKind,
    pub points: i32,
    pub after: i32,
    pub read: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoteKind {
    Success { heist: i64, victim: i32 },
    Robbed { heist: i64, attacker: i32 },
    Earned { referred: i32 },
}

/// Something true of one player at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Absent(i32),
    Account(i32, Account),
    Tokens(i32, i32),
    Points(i32, i32),
    Standing {
        user: i32,
        points: i32,
        tokens: i32,
    },
    /// Whether the player has to wait before the next heist.
    Cooling(i32, bool),
    Protected(i32, bool),
    /// Delta and balance of each line, newest first.
    Statement(i32, Vec<(i32, i32)>),
    /// Newest first.
    Heists(i32, Vec<i64>),
    /// Heists as attacker and as victim, points stolen and lost.
    Stats(i32, [i64; 4]),
    /// Newest first.
    Notifications(i32, Vec<Note>),
    Unread(i32, i32),
    /// The referral of the first player earned the second a token.
    EarnedBy(i32, i32),
    /// The referral earned a token for another player, or for one deleted since.
    EarnedByAnother(i32, i32),
    /// The account of the first player names another referrer than the second.
    ReferredByAnother(i32, i32),
    /// There is no such referred player.
    NoReferred(i32),
    /// The request id belongs to a heist that is not between these.
    HeistIdTaken(Uuid, i32, i32),
    /// The request id belongs to another adjustment.
    AdjustmentIdTaken(Uuid, i32, i32),
    Heist(Robbed),
}

/// An object whose changes have one order. A change of a player holds the lock on that player. The
/// referrer of a player, and the award for the referral, are read without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    Player(i32),
    Referral(i32),
}

impl Fact {
    /// `None` where it is about what never changes any more.
    pub fn object(&self) -> Option<Object> {
        match *self {
            Self::Absent(user)
            | Self::Account(user, _)
            | Self::Tokens(user, _)
            | Self::Points(user, _)
            | Self::Standing { user, .. }
            | Self::Cooling(user, _)
            | Self::Protected(user, _)
            | Self::Statement(user, _)
            | Self::Heists(user, _)
            | Self::Stats(user, _)
            | Self::Notifications(user, _)
            | Self::Unread(user, _) => Some(Object::Player(user)),
            Self::EarnedBy(user, _)
            | Self::EarnedByAnother(user, _)
            | Self::ReferredByAnother(user, _)
            | Self::NoReferred(user) => Some(Object::Referral(user)),
            Self::HeistIdTaken(..) | Self::AdjustmentIdTaken(..) | Self::Heist(_) => None,
        }
    }
}

impl Call {
    /// What it reads under lock or changes.
    pub fn objects(&self) -> Vec<Object> {
        match *self {
            Self::Rob {
                attacker, victim, ..
            } => vec![Object::Player(attacker), Object::Player(victim)],
            Self::Award { referrer, referred } => {
                vec![Object::Player(referrer), Object::Referral(referred)]
            }
            Self::Adjust { user, .. } | Self::Mark { user, .. } => vec![Object::Player(user)],
            Self::Delete { user } => vec![Object::Player(user), Object::Referral(user)],
            Self::Read(_) => Vec::new(),
        }
    }
}
