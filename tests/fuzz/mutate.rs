//! Small damage to good inputs.

use rand::{RngExt as _, rngs::SmallRng};

const MOST_MUTATIONS: usize = 6;
/// What is on the edge of something, in protobuf or in text.
const INTERESTING: [&[u8]; 14] = [
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\xf8\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x07",
    b"\xc3\x28",
    b"\xe2\x80\xae",
    b"-1",
    b"2147483648",
    b"99999999999999999999",
    b"=",
    b"\n",
];

pub fn mutate(bytes: &[u8], other: &[u8], rng: &mut SmallRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=MOST_MUTATIONS) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len());
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            5 => {
                let from = rng.random_range(0..=other.len());
                let to = rng.random_range(from..=other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let edge = INTERESTING[rng.random_range(0..INTERESTING.len())];
                bytes.splice(at..at, edge.iter().copied());
            }
        }
    }
    bytes
}
