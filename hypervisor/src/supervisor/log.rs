//! `supervisor.log` in the enclave's folder: what happened, for people, one line each, never more than a bound.

use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes after which nothing more is written: some lines are caused by the guest.
const MAX_LOG: usize = 256 * 1024;

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    written: usize,
}

impl Log {
    pub(super) const fn new(file: File) -> Self {
        Self { file, written: 0 }
    }

    /// Writes one line with the time in seconds since 1970. A log that cannot be written ends no enclave.
    pub(super) fn line(&mut self, text: &str) {
        if self.written >= MAX_LOG {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{}.{:03} {}\n", now.as_secs(), now.subsec_millis(), text.replace('\n', " "));
        self.written = self.written.saturating_add(line.len());
        let _ = self.file.write_all(line.as_bytes());
        if self.written >= MAX_LOG {
            let _ = self.file.write_all(b"(the log is full; nothing more is written)\n");
        }
    }
}
