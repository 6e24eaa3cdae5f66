//! Other people's text in messages: escaped, and no longer than a line of a log.

/// Most characters that are shown of one value. A PCR has 96, an ARN rarely more than 150.
const MAX_SHOWN: usize = 200;
/// Most values of a list that are shown.
const MAX_LISTED: usize = 4;

/// `text` in quotation marks, control and invisible characters escaped, cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    let (shown, length) = shown(text);
    format!("\"{shown}\"{length}")
}

/// The same without quotation marks, as a part of a longer name.
pub(super) fn unquoted(text: &str) -> String {
    let (shown, length) = shown(text);
    format!("{shown}{length}")
}

/// What is shown of `text`, and how long it is if that is not all.
fn shown(text: &str) -> (String, String) {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    let length = text.chars().count();
    if length <= MAX_SHOWN {
        return (shown, String::new());
    }
    shown.push('\u{2026}');
    (shown, format!(" ({length} characters)"))
}

/// Texts in quotation marks, the first few of them.
pub(super) fn listed<T: AsRef<str>>(texts: impl ExactSizeIterator<Item = T>) -> String {
    let more = texts.len().saturating_sub(MAX_LISTED);
    let mut shown = texts.take(MAX_LISTED).map(|text| quoted(text.as_ref())).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    shown
}

/// The candidate that looks most like `text`, as the end of a sentence; nothing if none does.
pub(super) fn suggestion<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    /// How alike two words are (0 to 1) before one is taken for the other, mistyped.
    const ALIKE: f64 = 0.8;
    let text: String = text.chars().take(MAX_SHOWN).collect::<String>().to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&text, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_drive_a_terminal_or_forge_a_line_is_escaped() {
        assert_eq!(quoted("a\x1b[2J\r\nb\u{202e}\"\\"), r#""a\u{1b}[2J\r\nb\u{202e}\"\\""#);
    }

    #[test]
    fn a_value_of_200_characters_is_shown_whole_and_a_longer_one_is_cut() {
        assert_eq!(quoted(&"x".repeat(200)), format!("\"{}\"", "x".repeat(200)));
        assert_eq!(quoted(&"x".repeat(201)), format!("\"{}\u{2026}\" (201 characters)", "x".repeat(200)));
    }

    #[test]
    fn a_part_of_a_name_has_no_quotation_marks_whether_it_is_cut_or_not() {
        assert_eq!(unquoted("a\"\n"), r#"a\"\n"#);
        assert_eq!(unquoted(&"x".repeat(200)), "x".repeat(200));
        assert_eq!(unquoted(&"x".repeat(201)), format!("{}\u{2026} (201 characters)", "x".repeat(200)));
    }

    #[test]
    fn a_mistyped_word_is_recognised_and_another_is_not() {
        assert_eq!(suggestion("kms:decypt", ["kms:Encrypt", "kms:Decrypt"]), "; did you mean kms:Decrypt?");
        assert_eq!(suggestion("xyz", ["kms:Encrypt", "kms:Decrypt"]), "");
    }
}
