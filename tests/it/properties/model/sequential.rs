//! The service as a sequential program in memory: the documented rules, implemented independently of
//! `src/domain`.
//!
//! The model has no clock: a cooldown or a protection, once begun, outlasts every history.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::history::{Account, Answer, Call, Fact, Note, NoteKind, Robbed};

/// The rules of one history.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub percentage: i32,
    pub cap: Option<i32>,
    pub minimum: i32,
    /// Whether an attacker has to wait after a heist.
    pub cooldown: bool,
    /// After how many robberies a victim is protected.
    pub protected_after: Option<usize>,
}

/// How a player begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub id: i32,
    pub points: i32,
    pub tokens: i32,
    pub referred_by: Option<i32>,
}

#[derive(Clone, Debug)]
struct Player {
    points: i32,
    account: Account,
    has_robbed: bool,
    times_robbed: usize,
    referred_by: Option<i32>,
    statement: Vec<(i32, i32)>,
    heists: Vec<i64>,
    stats: [i64; 4],
    notes: Vec<Note>,
}

/// Numbers that the service drew: by user and ledger id, the id of the notification.
pub type NoteIds = HashMap<(i32, i64), i64>;

#[derive(Clone, Debug)]
pub struct Model {
    rules: Rules,
    players: BTreeMap<i32, Player>,
    heists: BTreeMap<i64, Robbed>,
    heist_ids: HashMap<Uuid, i64>,
    adjustments: HashMap<Uuid, (i32, i32)>,
    /// The player that earned the token for a referral; `None` if deleted since.
    earned: HashMap<i32, Option<i32>>,
    note_ids: NoteIds,
}

impl Model {
    pub fn new(rules: Rules, cast: &[Start], note_ids: NoteIds) -> Self {
        let players = cast.iter().map(|start| {
            let account = Account {
                balance: start.tokens,
                earned: start.tokens,
                spent: 0,
            };
            let granted = (start.tokens > 0).then_some((start.tokens, start.tokens));
            let player = Player {
                points: start.points,
                account,
                has_robbed: false,
                times_robbed: 0,
                referred_by: start.referred_by,
                statement: granted.into_iter().collect(),
                heists: Vec::new(),
                stats: [0; 4],
                notes: Vec::new(),
            };
            (start.id, player)
        });
        Self {
            rules,
            players: players.collect(),
            heists: BTreeMap::new(),
            heist_ids: HashMap::new(),
            adjustments: HashMap::new(),
            earned: HashMap::new(),
            note_ids,
        }
    }

    /// Executes a call that writes, where it writes something with this number in the ledger.
    pub fn execute(&mut self, call: &Call, ledger_id: i64) -> Answer {
        match *call {
            Call::Rob {
                attacker,
                victim,
                request_id,
            } => self.rob(attacker, victim, request_id, ledger_id),
            Call::Award { referrer, referred } => self.award(referrer, referred, ledger_id),
            Call::Adjust {
                user,
                delta,
                request_id,
            } => self.adjust(user, delta, request_id),
            Call::Mark {
                user,
                up_to,
                ref ids,
            } => self.mark(user, up_to, ids),
            Call::Delete { user } => self.delete(user),
            Call::Read(_) => unreachable!("it writes nothing"),
        }
    }

    fn rob(&mut self, attacker: i32, victim: i32, request_id: Option<Uuid>, id: i64) -> Answer {
        if let Some(first) = request_id.and_then(|request_id| self.heist_ids.get(&request_id)) {
            let heist = &self.heists[first];
            let is_same =
                [0, attacker].contains(&heist.attacker) && [0, victim].contains(&heist.victim);
            return if is_same {
                Answer::Robbed(Robbed {
                    replayed: true,
                    ..heist.clone()
                })
            } else {
                refused("REQUEST_ID_REUSED")
            };
        }
        if attacker == victim {
            return refused("SELF_TARGET");
        }
        let Some(robber) = self.players.get(&attacker) else {
            return refused("ATTACKER_NOT_FOUND");
        };
        let Some(robbed) = self.players.get(&victim) else {
            return refused("TARGET_NOT_FOUND");
        };
        if robber.account.balance < 1 {
            return refused("INSUFFICIENT_TOKENS");
        }
        if self.is_cooling(robber) {
            return refused("COOLDOWN_ACTIVE");
        }
        let share = robbed.points * self.rules.percentage / 100;
        let stolen = self.rules.cap.map_or(share, |cap| share.min(cap));
        if robbed.points < self.rules.minimum || stolen < 1 {
            return refused("INSUFFICIENT_POINTS");
        }
        if self.is_protected(robbed) {
            return refused("TARGET_PROTECTED");
        }

        let heist = Robbed {
            id,
            attacker,
            victim,
            stolen,
            attacker_before: robber.points,
            attacker_after: robber.points + stolen,
            victim_before: robbed.points,
            victim_after: robbed.points - stolen,
            tokens_remaining: robber.account.balance - 1,
            replayed: false,
        };
        let robber = self.players.get_mut(&attacker).expect("just seen");
        robber.points = heist.attacker_after;
        robber.account.balance -= 1;
        robber.account.spent += 1;
        robber.has_robbed = true;
        robber.statement.push((-1, heist.tokens_remaining));
        robber.heists.push(id);
        robber.stats[0] += 1;
        robber.stats[2] += i64::from(stolen);
        let kind = NoteKind::Success { heist: id, victim };
        self.tell(attacker, id, kind, stolen, heist.attacker_after);
        let robbed = self.players.get_mut(&victim).expect("just seen");
        robbed.points = heist.victim_after;
        robbed.times_robbed += 1;
        robbed.heists.push(id);
        robbed.stats[1] += 1;
        robbed.stats[3] += i64::from(stolen);
        let kind = NoteKind::Robbed {
            heist: id,
            attacker,
        };
        self.tell(victim, id, kind, stolen, heist.victim_after);
        self.heists.insert(id, heist.clone());
        if let Some(request_id) = request_id {
            self.heist_ids.insert(request_id, id);
        }
        Answer::Robbed(heist)
    }

    /// Only an award that happens: why another did not is told by facts.
    fn award(&mut self, referrer: i32, referred: i32, id: i64) -> Answer {
        let Some(player) = self.players.get(&referred) else {
            return refused("USER_NOT_FOUND");
        };
        if referrer == referred {
            return refused("SELF_REFERRAL");
        }
        if player.referred_by.is_some_and(|by| by != referrer) {
            return refused("REFERRAL_MISMATCH");
        }
        if self.earned.contains_key(&referred) {
            return refused("REFERRAL_ALREADY_AWARDED");
        }
        let Some(earner) = self.players.get_mut(&referrer) else {
            return refused("USER_NOT_FOUND");
        };
        earner.account.balance += 1;
        earner.account.earned += 1;
        let account = earner.account;
        earner.statement.push((1, account.balance));
        self.earned.insert(referred, Some(referrer));
        self.tell(
            referrer,
            id,
            NoteKind::Earned { referred },
            0,
            account.balance,
        );
        Answer::Account {
            account,
            repeated: false,
        }
    }

    fn adjust(&mut self, user: i32, delta: i32, request_id: Uuid) -> Answer {
        let Some(player) = self.players.get_mut(&user) else {
            return refused("USER_NOT_FOUND");
        };
        if let Some(&made) = self.adjustments.get(&request_id) {
            return if made == (user, delta) {
                Answer::Account {
                    account: player.account,
                    repeated: true,
                }
            } else {
                refused("REQUEST_ID_REUSED")
            };
        }
        if player.account.balance + delta < 0 {
            return refused("INSUFFICIENT_TOKENS");
        }
        player.account.balance += delta;
        player.account.earned += delta.max(0);
        player.account.spent -= delta.min(0);
        player.statement.push((delta, player.account.balance));
        self.adjustments.insert(request_id, (user, delta));
        Answer::Account {
            account: player.account,
            repeated: false,
        }
    }

    fn mark(&mut self, user: i32, up_to: i64, ids: &[i64]) -> Answer {
        let Some(player) = self.players.get_mut(&user) else {
            return refused("USER_NOT_FOUND");
        };
        let mut marked = 0;
        for note in &mut player.notes {
            if !note.read && (note.id <= up_to || ids.contains(&note.id)) {
                note.read = true;
                marked += 1;
            }
        }
        let unread = unread(player);
        Answer::Marked { marked, unread }
    }

    fn delete(&mut self, user: i32) -> Answer {
        self.players.remove(&user);
        self.adjustments.retain(|_, (owner, _)| *owner != user);
        self.earned.remove(&user);
        for earner in self.earned.values_mut() {
            earner.take_if(|earner| *earner == user);
        }
        for player in self.players.values_mut() {
            player.referred_by.take_if(|by| *by == user);
        }
        for heist in self.heists.values_mut() {
            for side in [&mut heist.attacker, &mut heist.victim] {
                if *side == user {
                    *side = 0;
                }
            }
        }
        Answer::Deleted
    }

    fn tell(&mut self, user: i32, ledger_id: i64, kind: NoteKind, points: i32, after: i32) {
        let id = self.note_ids.get(&(user, ledger_id)).copied();
        let player = self.players.get_mut(&user).expect("the player exists");
        player.notes.push(Note {
            id: id.unwrap_or_default(),
            kind,
            points,
            after,
            read: false,
        });
    }

    fn is_cooling(&self, player: &Player) -> bool {
        self.rules.cooldown && player.has_robbed
    }

    fn is_protected(&self, player: &Player) -> bool {
        (self.rules.protected_after).is_some_and(|times| player.times_robbed >= times)
    }

    /// Whether it is true now.
    pub fn holds(&self, fact: &Fact) -> bool {
        let player = |user: &i32| self.players.get(user);
        match fact {
            Fact::Absent(user) | Fact::NoReferred(user) => player(user).is_none(),
            Fact::Account(user, account) => player(user).is_some_and(|p| p.account == *account),
            Fact::Tokens(user, tokens) => {
                player(user).is_some_and(|p| p.account.balance == *tokens)
            }
            Fact::Points(user, points) => player(user).is_some_and(|p| p.points == *points),
            Fact::Standing {
                user,
                points,
                tokens,
            } => player(user).is_some_and(|p| (p.points, p.account.balance) == (*points, *tokens)),
            Fact::Cooling(user, is) => player(user).is_some_and(|p| self.is_cooling(p) == *is),
            Fact::Protected(user, is) => player(user).is_some_and(|p| self.is_protected(p) == *is),
            Fact::Statement(user, lines) => {
                player(user).is_some_and(|p| p.statement.iter().rev().eq(lines))
            }
            Fact::Heists(user, ids) => player(user).is_some_and(|p| p.heists.iter().rev().eq(ids)),
            Fact::Stats(user, stats) => player(user).is_some_and(|p| p.stats == *stats),
            Fact::Notifications(user, notes) => {
                player(user).is_some_and(|p| p.notes.iter().rev().eq(notes))
            }
            Fact::Unread(user, count) => player(user).is_some_and(|p| unread(p) == *count),
            Fact::EarnedBy(user, by) => {
                player(user).is_some() && self.earned.get(user) == Some(&Some(*by))
            }
            Fact::EarnedByAnother(user, not_by) => {
                player(user).is_some()
                    && (self.earned.get(user)).is_some_and(|by| *by != Some(*not_by))
            }
            Fact::ReferredByAnother(user, not_by) => {
                player(user).is_some_and(|p| p.referred_by.is_some_and(|by| by != *not_by))
            }
            Fact::HeistIdTaken(request_id, attacker, victim) => (self.heist_ids.get(request_id))
                .is_some_and(|id| {
                    let heist = &self.heists[id];
                    ![0, *attacker].contains(&heist.attacker)
                        || ![0, *victim].contains(&heist.victim)
                }),
            Fact::AdjustmentIdTaken(request_id, user, delta) => {
                (self.adjustments.get(request_id)).is_some_and(|made| *made != (*user, *delta))
            }
            Fact::Heist(heist) => (self.heists.get(&heist.id)).is_some_and(|known| {
                // The call does not tell how many tokens remained.
                let tokens_remaining = known.tokens_remaining;
                *known
                    == Robbed {
                        tokens_remaining,
                        ..heist.clone()
                    }
            }),
        }
    }

    /// The state of a player, for the message of a failed test.
    pub fn describe(&self, user: i32) -> String {
        match self.players.get(&user) {
            Some(player) => format!("{user}: {player:?}"),
            None => format!("{user}: no such player"),
        }
    }
}

fn unread(player: &Player) -> i32 {
    i32::try_from(player.notes.iter().filter(|note| !note.read).count()).expect("a few")
}

fn refused(reason: &str) -> Answer {
    Answer::Refused(reason.to_owned())
}
