//! Cheap mutations that know no format: what is most often wrong with a parser shows with few of them.

/// Values at which lengths and numbers go wrong, as they stand in big-endian formats.
const EDGES: [&[u8]; 7] = [
    &[0],
    &[0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];

/// A fixed sequence of numbers, so that a failure comes again.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence that `seed` begins.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        // Constants of Knuth's MMIX generator; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// A number below `limit`, or zero.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).expect("31 bits") % limit.max(1)
    }
}

/// One to three changes to an input; pieces to insert come from it and from another one.
pub(crate) fn mutate(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed.wrapping_add(1));
    let mut mutated = input.to_vec();
    for _ in 0..=numbers.below(3) {
        change(&mut mutated, other, &mut numbers);
    }
    mutated
}

fn change(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    match numbers.below(8) {
        0 => bytes.truncate(at),
        1 => {
            let end = at + numbers.below(bytes.len() - at);
            bytes.drain(at..end);
        }
        2 => insert(bytes, at, &piece(&bytes.clone(), numbers)),
        3 => insert(bytes, at, &piece(other, numbers)),
        4 => insert(bytes, at, EDGES[numbers.below(EDGES.len())]),
        5 => {
            for (byte, edge) in bytes.iter_mut().skip(at).zip(EDGES[numbers.below(EDGES.len())]) {
                *byte = *edge;
            }
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn piece(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let (one, other) = (numbers.below(bytes.len() + 1), numbers.below(bytes.len() + 1));
    bytes[one.min(other)..one.max(other)].to_vec()
}
