//! A table of things with numbers that are not used again soon, so that a late event cannot hit a later thing.

/// The number of a thing in a [`Slab`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Generations have 28 bits, so that a token and four bits fit into 64.
pub(crate) const GENERATIONS: u32 = 1 << 28;

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// At most `limit` things.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// None if the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Option<Token> {
        if self.is_full() {
            return None;
        }
        if let Some(slot) = self.free.pop() {
            let entry = self.entries.get_mut(usize::try_from(slot).ok()?)?;
            entry.value = Some(value);
            return Some(Token { slot, generation: entry.generation });
        }
        let slot = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Some(Token { slot, generation: 0 })
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.entry(token)?.value.as_mut()
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        let entry = self.entry(token)?;
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) % GENERATIONS;
        self.free.push(token.slot);
        Some(value)
    }

    /// The numbers of all things in the table.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let numbered = (0u32..).zip(&self.entries);
        numbered
            .filter(|(_, entry)| entry.value.is_some())
            .map(|(slot, entry)| Token { slot, generation: entry.generation })
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    fn entry(&mut self, token: Token) -> Option<&mut Entry<T>> {
        let entry = self.entries.get_mut(usize::try_from(token.slot).ok()?)?;
        (entry.generation == token.generation).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_number_finds_nothing() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(second.slot, first.slot);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!(slab.tokens(), vec![second]);
    }

    #[test]
    fn the_limit_holds() {
        let mut slab = Slab::new(2);
        let first = slab.insert(1).unwrap();
        slab.insert(2).unwrap();
        assert_eq!(slab.insert(3), None);
        slab.remove(first);
        assert!(slab.insert(3).is_some());
        assert_eq!(slab.len(), 2);
    }
}
