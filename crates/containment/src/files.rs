//! Landlock: no file can be opened, no TCP port used, no process outside signalled and no abstract socket outside reached,
//! as far as the kernel's landlock goes. See landlock(7).

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};

/// The newest interface that is known to deny nothing that is needed: signals and abstract sockets are in it (Linux 6.12).
const NEWEST: ABI = ABI::V6;

/// How much the kernel took.
pub(crate) fn deny_all() -> Result<RulesetStatus, RulesetError> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(restricted.ruleset)
}
