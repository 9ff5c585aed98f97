//! The slots for connections, and which connection is closed when all slots are taken.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{
    domain::ids::UserId,
    rpc::{ConnectionUsage, TrafficLimits},
};

/// Connections beyond the limit that are accepted for probes while all others are authenticated.
/// Calls of the contract are refused on them.
const PROBE_CONNECTIONS: usize = 16;

/// The connections that a player keeps when all slots are taken. If one player has more, a new
/// connection takes the slot of that player's oldest one.
const PLAYER_CONNECTIONS: usize = 16;

/// The slots of all connections. If no slot is free, a new connection takes the slot of the
/// oldest stranger, which is a connection without an authenticated call. So strangers cannot lock
/// out probes and callers.
#[derive(Default)]
pub(super) struct ConnectionSlots(Arc<Mutex<Open>>);

/// The open connections, oldest first.
#[derive(Default)]
struct Open {
    next: u64,
    all: Vec<Entry>,
}

struct Entry {
    number: u64,
    address: Option<IpAddr>,
    usage: Arc<ConnectionUsage>,
}

/// The slot of a connection. Dropping it frees the slot.
pub(super) struct ConnectionSlot {
    number: u64,
    open: Arc<Mutex<Open>>,
}

impl ConnectionSlots {
    /// Takes a slot for a connection from this address, which closes when `closed` is cancelled;
    /// `None` if there is no slot.
    pub(super) fn take(
        &self,
        address: Option<IpAddr>,
        limits: &TrafficLimits,
        closed: &CancellationToken,
    ) -> Option<(ConnectionSlot, Arc<ConnectionUsage>)> {
        let (number, usage) = lock(&self.0).take(address, limits, closed)?;
        let open = Arc::clone(&self.0);
        Some((ConnectionSlot { number, open }, usage))
    }
}

impl Open {
    fn take(
        &mut self,
        address: Option<IpAddr>,
        limits: &TrafficLimits,
        closed: &CancellationToken,
    ) -> Option<(u64, Arc<ConnectionUsage>)> {
        let strangers = |entry: &&Entry| !entry.usage.is_authenticated();
        let from_there = |entry: &&Entry| entry.address == address;
        let mut others = self.all.iter().filter(strangers).filter(from_there);
        let oldest = others.next().map(|entry| entry.number);
        if oldest.is_some() && others.count() + 1 >= limits.address_connections {
            self.close(oldest);
        }
        if self.all.len() >= limits.connections {
            let oldest = self.all.iter().find(strangers);
            let oldest = oldest.map(|entry| entry.number);
            self.close(oldest.or_else(|| self.oldest_of_busiest_player()));
        }
        let is_full = self.all.len() >= limits.connections;
        if is_full && self.all.len() >= limits.connections + PROBE_CONNECTIONS {
            return None;
        }
        let usage = Arc::new(ConnectionUsage::new(is_full, closed.clone()));
        let number = self.next;
        self.next += 1;
        self.all.push(Entry {
            number,
            address,
            usage: Arc::clone(&usage),
        });
        Some((number, usage))
    }

    /// The oldest connection of the player with the most connections, if they are more than
    /// [`PLAYER_CONNECTIONS`].
    fn oldest_of_busiest_player(&self) -> Option<u64> {
        let mut of_players: HashMap<UserId, Vec<u64>> = HashMap::new();
        for entry in &self.all {
            if let Some(player) = entry.usage.player() {
                of_players.entry(player).or_default().push(entry.number);
            }
        }
        let busiest = of_players.into_values().max_by_key(Vec::len)?;
        (busiest.len() > PLAYER_CONNECTIONS).then(|| busiest[0])
    }

    /// Closes a connection and frees its slot at once.
    fn close(&mut self, number: Option<u64>) {
        if let Some(entry) = number.and_then(|number| self.remove(number)) {
            entry.usage.close();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let place = (self.all.binary_search_by_key(&number, |entry| entry.number)).ok()?;
        Some(self.all.remove(place))
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        lock(&self.open).remove(self.number);
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize) -> TrafficLimits {
        TrafficLimits {
            connections,
            ..TrafficLimits::default()
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Takes a place and returns the connection, with the token of its end.
    fn take(
        open: &mut Open,
        from: u8,
        limits: &TrafficLimits,
    ) -> Option<(Arc<ConnectionUsage>, CancellationToken)> {
        let closed = CancellationToken::new();
        let (_, usage) = open.take(Some(address(from)), limits, &closed)?;
        Some((usage, closed))
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_oldest_strangers() {
        let mut open = Open::default();
        let (caller, of_caller) = take(&mut open, 1, &limits(3)).unwrap();
        caller.set_authenticated(None);
        let (_, first) = take(&mut open, 2, &limits(3)).unwrap();
        let (_, second) = take(&mut open, 3, &limits(3)).unwrap();
        let (newest, _) = take(&mut open, 4, &limits(3)).unwrap();
        assert!(first.is_cancelled() && !second.is_cancelled() && !of_caller.is_cancelled());
        assert!(!newest.is_for_probes_only());
    }

    #[test]
    fn probes_have_places_beside_callers_that_take_all_others() {
        let mut open = Open::default();
        for _ in 0..3 {
            take(&mut open, 1, &limits(3))
                .unwrap()
                .0
                .set_authenticated(None);
        }
        for _ in 0..100 {
            let (probe, _) = take(&mut open, 2, &limits(3)).unwrap();
            assert!(probe.is_for_probes_only());
        }
        assert!(open.all.len() <= 3 + PROBE_CONNECTIONS);
    }

    #[test]
    fn a_player_with_many_connections_gives_way_to_others() {
        let limits = limits(PLAYER_CONNECTIONS + 3);
        let mut open = Open::default();
        let other = take(&mut open, 1, &limits).unwrap();
        other.0.set_authenticated(UserId::new(2).ok());
        let connections: Vec<_> = (0..PLAYER_CONNECTIONS + 2)
            .map(|_| {
                let (usage, closed) = take(&mut open, 2, &limits).unwrap();
                usage.set_authenticated(Some(UserId::MIN));
                closed
            })
            .collect();
        for expected in [1, 2, 2] {
            let (newest, _) = take(&mut open, 3, &limits).unwrap();
            newest.set_authenticated(None);
            let closed = connections.iter().filter(|it| it.is_cancelled()).count();
            assert_eq!(closed, expected);
        }
        assert!(!other.1.is_cancelled());
    }

    #[test]
    fn strangers_of_one_address_have_so_many_slots() {
        let limits = TrafficLimits {
            address_connections: 2,
            ..limits(100)
        };
        let mut open = Open::default();
        let (_, elsewhere) = take(&mut open, 1, &limits).unwrap();
        let closed: Vec<CancellationToken> = (0..5)
            .map(|_| take(&mut open, 2, &limits).unwrap().1)
            .collect();
        let closed: Vec<bool> = closed.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(closed, [true, true, true, false, false]);
        assert!(!elsewhere.is_cancelled());
    }
}
