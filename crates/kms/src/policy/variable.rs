//! Policy variables, such as `${aws:username}`: this service fills in none.

use super::error::PolicyError;
use super::text::quoted;

/// Refuses a text that AWS would fill in: taken as written, it would match something else.
pub(super) fn no_variable(text: &str, at: &str) -> Result<(), PolicyError> {
    if !text.contains("${") {
        return Ok(());
    }
    Err(PolicyError::new(
        at,
        format!(
            "{} has a policy variable, which this service does not fill in; write the value",
            quoted(text)
        ),
    ))
}
