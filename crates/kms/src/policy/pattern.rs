//! Texts with wildcards: `*` stands for any run of characters, none included, `?` for exactly one.
//!
//! No backtracking: each piece between two `*` is looked for once, from where the one before ended.

/// A text with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    /// What stands between the stars, one piece more than there are stars.
    pieces: Vec<String>,
}

impl Pattern {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let pieces = text.split('*').map(str::to_owned).collect();
        Self { text, pieces }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// True if the pattern has a wildcard.
    pub(super) fn is_wild(&self) -> bool {
        self.text.contains(['*', '?'])
    }

    /// True if `text`, all of it, is what the pattern stands for. Upper and lower case differ.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self.pieces.as_slice() {
            [] => text.is_empty(),
            [only] => after(text, only) == Some(""),
            [first, middle @ .., last] => {
                let Some(mut rest) = after(text, first) else { return false };
                for piece in middle {
                    let Some(behind) = find_after(rest, piece) else { return false };
                    rest = behind;
                }
                ends_with(rest, last)
            }
        }
    }
}

/// What follows `piece` at the beginning of `text`.
fn after<'a>(text: &'a str, piece: &str) -> Option<&'a str> {
    if !piece.contains('?') {
        return text.strip_prefix(piece);
    }
    let mut rest = text.chars();
    piece
        .chars()
        .all(|expected| rest.next().is_some_and(|c| expected == '?' || expected == c))
        .then(|| rest.as_str())
}

/// What follows the first place in `text` where `piece` stands.
fn find_after<'a>(text: &'a str, piece: &str) -> Option<&'a str> {
    if !piece.contains('?') {
        return text.split_once(piece).map(|(_, behind)| behind);
    }
    let starts = text.char_indices().map(|(start, _)| start);
    starts.filter_map(|start| text.get(start..)).find_map(|rest| after(rest, piece))
}

fn ends_with(text: &str, piece: &str) -> bool {
    let mut rest = text.chars().rev();
    piece.chars().rev().all(|expected| rest.next().is_some_and(|c| expected == '?' || expected == c))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(text)
    }

    #[test]
    fn a_pattern_without_wildcards_is_the_whole_text_and_nothing_else() {
        assert!(matches("kms:Decrypt", "kms:Decrypt"));
        for text in ["", "kms:Decryp", "kms:DecryptX", "xkms:Decrypt", "kms:decrypt"] {
            assert!(!matches("kms:Decrypt", text), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_any_run_and_a_question_mark_for_one_character() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "anything"),
            ("a*", "a"),
            ("*a", "bca"),
            ("a*b*c", "a--b--b--c"),
            ("a**c", "ac"),
            ("?", "\u{fc}"),
            ("a?c*", "abcd"),
            ("*?", "x"),
            ("*b?d*", "abcbcd"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a*", "ba"),
            ("*a", "ab"),
            ("?", ""),
            ("?", "ab"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("??", "\u{fc}"),
            ("*?", ""),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_made_to_explode_does_not() {
        let text = "a".repeat(32 * 1024);
        let start = Instant::now();
        assert!(!matches(&format!("{}b", "a*".repeat(8 * 1024)), &text));
        assert!(!matches(&format!("{}b", "*a?".repeat(4 * 1024)), &text));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    /// The definition, word for word; exponential, for short texts.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            (['?', rest @ ..], [_, text @ ..]) => by_definition(rest, text),
            ([expected, rest @ ..], [first, text @ ..]) => expected == first && by_definition(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_the_definition_says(pattern in "[ab\u{fc}*?]{0,8}", text in "[ab\u{fc}]{0,10}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), by_definition(&characters(&pattern), &characters(&text)));
        }
    }
}
