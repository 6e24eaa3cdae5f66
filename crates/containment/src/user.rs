//! A user and group of its own, which no account has. See setresuid(2), credentials(7).

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::{ContainmentError, step};

/// Who a process becomes. Its group has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The number of user and group; not root's.
    pub id: u32,
    /// The user whose processes may end this one: its saved user id, by which kill(2) goes too. To become that user again it
    /// would have to make a system call that no list allows.
    pub ended_by: u32,
}

impl User {
    /// Becomes this user, in no other group. Takes CAP_SETUID and CAP_SETGID. The process has one thread.
    pub(crate) fn become_it(self) -> Result<(), ContainmentError> {
        let (user, group) = (Uid::from_raw(self.id), Gid::from_raw(self.id));
        set_thread_groups(&[]).map_err(step("leave its groups"))?;
        set_thread_res_gid(group, group, group).map_err(step("change its group"))?;
        set_thread_res_uid(user, user, Uid::from_raw(self.ended_by)).map_err(step("change its user"))
    }
}
