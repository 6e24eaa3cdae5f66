//! Who may sign requests.
