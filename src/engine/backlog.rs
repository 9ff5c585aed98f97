//! Orders that wait, and which of them may run beside the batches that are running.

use std::collections::{HashSet, VecDeque};

use crate::domain::ids::UserId;

/// Hands out batches that have no player in common with a batch that is running.
///
/// Such a batch could only wait for the row locks of the other one, and hold a connection and
/// the locks of everybody else in it meanwhile. Held back, its orders join those that come
/// while the other batch runs: whoever robs the same popular victim shares the next
/// transaction. Each player's orders keep the order in which they came.
pub(super) struct Backlog<Order> {
    /// Nobody has looked at these since they came, or since a batch last ended.
    fresh: VecDeque<Waiting<Order>>,
    /// These wait for a player. All of them came before the fresh ones.
    held_back: VecDeque<Waiting<Order>>,
    /// The players of running batches.
    busy: HashSet<UserId>,
    /// The players of orders held back: later orders must not overtake those.
    spoken_for: HashSet<UserId>,
}

struct Waiting<Order> {
    order: Order,
    players: Vec<UserId>,
}

/// Orders that may run now.
pub(super) struct Batch<Order> {
    pub(super) orders: Vec<Order>,
    /// To be given back to [`Backlog::release`] when the batch has ended.
    pub(super) players: HashSet<UserId>,
}

impl<Order> Backlog<Order> {
    pub(super) fn new() -> Self {
        Self {
            fresh: VecDeque::new(),
            held_back: VecDeque::new(),
            busy: HashSet::new(),
            spoken_for: HashSet::new(),
        }
    }

    pub(super) fn push(&mut self, order: Order, players: Vec<UserId>) {
        self.fresh.push_back(Waiting { order, players });
    }

    /// The oldest orders that may run now, `limit` at the most, oldest first. `None` where
    /// there are none.
    pub(super) fn take(&mut self, limit: usize) -> Option<Batch<Order>> {
        let mut batch = Batch {
            orders: Vec::new(),
            players: HashSet::new(),
        };
        while batch.orders.len() < limit
            && let Some(waiting) = self.fresh.pop_front()
        {
            if self.must_wait(&waiting.players) {
                self.spoken_for.extend(&waiting.players);
                self.held_back.push_back(waiting);
            } else {
                batch.players.extend(&waiting.players);
                batch.orders.push(waiting.order);
            }
        }
        self.busy.extend(&batch.players);
        (!batch.orders.is_empty()).then_some(batch)
    }

    /// A batch with these players has ended: whoever was held back may be next.
    pub(super) fn release(&mut self, players: &HashSet<UserId>) {
        for player in players {
            self.busy.remove(player);
        }
        self.spoken_for.clear();
        self.held_back.append(&mut self.fresh);
        std::mem::swap(&mut self.held_back, &mut self.fresh);
    }

    fn must_wait(&self, players: &[UserId]) -> bool {
        (players.iter())
            .any(|player| self.busy.contains(player) || self.spoken_for.contains(player))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(id: i32) -> UserId {
        UserId::new(id).unwrap()
    }

    /// A backlog of orders named by their position, each with these players.
    fn backlog(orders: &[&[i32]]) -> Backlog<usize> {
        let mut backlog = Backlog::new();
        for (order, players) in orders.iter().enumerate() {
            backlog.push(order, players.iter().copied().map(player).collect());
        }
        backlog
    }

    fn orders(batch: Option<&Batch<usize>>) -> &[usize] {
        batch.map_or(&[], |batch| &batch.orders)
    }

    #[test]
    fn orders_with_a_player_in_common_share_a_batch() {
        let mut backlog = backlog(&[&[1, 9], &[2, 9], &[3, 4]]);
        assert_eq!(orders(backlog.take(10).as_ref()), [0, 1, 2]);
        assert!(backlog.take(10).is_none());
    }

    #[test]
    fn a_batch_has_no_player_in_common_with_a_running_one() {
        let mut backlog = backlog(&[&[1, 9], &[2, 9], &[3, 4], &[5, 9]]);
        let first = backlog.take(1).expect("a batch");
        assert_eq!(first.orders, [0]);
        assert_eq!(orders(backlog.take(10).as_ref()), [2]);
        assert!(backlog.take(10).is_none());

        backlog.push(4, vec![player(6), player(9)]);
        backlog.release(&first.players);
        assert_eq!(orders(backlog.take(10).as_ref()), [1, 3, 4]);
    }

    #[test]
    fn nobody_overtakes_an_earlier_order_of_the_same_player() {
        let mut backlog = backlog(&[&[1, 2], &[2, 3], &[3, 4]]);
        let first = backlog.take(1).expect("a batch");
        assert!(backlog.take(10).is_none(), "3 is spoken for");
        backlog.release(&first.players);
        assert_eq!(orders(backlog.take(10).as_ref()), [1, 2]);
    }

    #[test]
    fn what_exceeds_a_batch_stays_for_the_next() {
        let mut backlog = backlog(&[&[1], &[2], &[3]]);
        assert_eq!(orders(backlog.take(2).as_ref()), [0, 1]);
        assert_eq!(orders(backlog.take(2).as_ref()), [2]);
    }
}
