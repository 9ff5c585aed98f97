//! The signals between replicas, as the payload of a `NOTIFY`.

use serde::{Deserialize, Serialize};

use crate::domain::{
    change::{Changes, PointsChange, PointsMoved},
    ids::{HeistId, InvalidId, UserId},
};

/// Heists in one signal: a payload has to stay below 8000 bytes, and a heist takes at most
/// 20 + 2 × (11 + 11 + 11) digits and 9 punctuation marks.
const MAX_HEISTS: usize = 70;
/// Other players in one signal, of 12 bytes each.
const MAX_NOTIFIED: usize = 70;

/// One signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signal {
    /// The sender: a random number that each replica draws when it starts.
    pub(super) replica: u64,
    /// Counts the signals of a replica, so that a gap is noticed.
    pub(super) sequence: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// Players with a notification, and heists as id, attacker, points, change, victim,
    /// points, change.
    Changes(Vec<i32>, Vec<(i64, i32, i32, i32, i32, i32, i32)>),
    /// Some signals were not sent.
    Resync,
    /// Nothing happened; the replica is alive.
    Alive,
    /// The replica stops, so its silence from now on does not matter.
    #[serde(rename = "Bye")]
    Stopping,
}

/// The bodies of the signals that carry these changes.
pub(super) fn bodies(changes: &Changes) -> Vec<Body> {
    let mut notified = changes.notified.chunks(MAX_NOTIFIED);
    let mut heists = changes.heists.chunks(MAX_HEISTS);
    let mut bodies = Vec::new();
    loop {
        match (notified.next(), heists.next()) {
            (None, None) => return bodies,
            (notified, heists) => bodies.push(Body::Changes(
                notified
                    .unwrap_or_default()
                    .iter()
                    .map(|id| id.get())
                    .collect(),
                heists.unwrap_or_default().iter().map(flatten).collect(),
            )),
        }
    }
}

impl Body {
    /// The changes in the body; `None` if it carries none.
    pub(super) fn changes(self) -> Option<Changes> {
        let Self::Changes(notified, heists) = self else {
            return None;
        };
        Some(Changes {
            // Impossible ids are skipped, because signals are hints.
            notified: notified.into_iter().flat_map(UserId::new).collect(),
            heists: heists.into_iter().flat_map(unflatten).collect(),
            in_doubt: false,
        })
    }
}

fn flatten(moved: &PointsMoved) -> (i64, i32, i32, i32, i32, i32, i32) {
    let PointsMoved {
        heist_id,
        attacker,
        victim,
    } = moved;
    (
        heist_id.get(),
        attacker.user_id.get(),
        attacker.monthly_points,
        attacker.delta,
        victim.user_id.get(),
        victim.monthly_points,
        victim.delta,
    )
}

fn unflatten(
    (heist_id, attacker_id, attacker_points, gain, victim_id, victim_points, loss): (
        i64,
        i32,
        i32,
        i32,
        i32,
        i32,
        i32,
    ),
) -> Result<PointsMoved, InvalidId> {
    Ok(PointsMoved {
        heist_id: HeistId::new(heist_id)?,
        attacker: PointsChange {
            user_id: UserId::new(attacker_id)?,
            monthly_points: attacker_points,
            delta: gain,
        },
        victim: PointsChange {
            user_id: UserId::new(victim_id)?,
            monthly_points: victim_points,
            delta: loss,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_signal_fits_a_payload() {
        const PAYLOAD_BYTES: usize = 8000;
        let longest = PointsChange {
            user_id: UserId::new(i32::MAX).unwrap(),
            monthly_points: i32::MIN,
            delta: i32::MIN,
        };
        let moved = PointsMoved {
            heist_id: HeistId::new(i64::MAX).unwrap(),
            attacker: longest.clone(),
            victim: longest,
        };
        let changes = Changes {
            notified: vec![UserId::new(i32::MAX).unwrap(); 3 * MAX_NOTIFIED],
            heists: vec![moved; 2 * MAX_HEISTS],
            in_doubt: false,
        };
        let bodies = bodies(&changes);
        assert_eq!(bodies.len(), 3);
        let mut told = Changes::default();
        for body in bodies {
            let signal = Signal {
                replica: u64::MAX,
                sequence: u64::MAX,
                body,
            };
            let payload = serde_json::to_string(&signal).unwrap();
            assert!(payload.len() < PAYLOAD_BYTES, "{}", payload.len());
            let signal: Signal = serde_json::from_str(&payload).unwrap();
            let part = signal.body.changes().unwrap();
            told.notified.extend(part.notified);
            told.heists.extend(part.heists);
        }
        assert_eq!(told, changes);
    }
}
