//! `nitro-cli explain`: what an error number means. On standard error, as nitro-cli does it.

use super::codes::Code;
use crate::output;

pub(super) fn explain(text: &str) {
    match Code::parse(text) {
        Some(code) => output::tell(code.meaning().1),
        None => output::tell(format_args!("No such error code {}", output::printable(text))),
    }
}
