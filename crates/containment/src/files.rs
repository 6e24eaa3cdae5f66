//! Landlock: which files can be touched; no TCP port used, no process outside signalled and no abstract socket outside reached,
//! as far as the kernel's landlock goes. See landlock(7).

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};

/// The newest interface that is known to deny nothing that is needed: signals and abstract sockets are in it (Linux 6.12).
const NEWEST: ABI = ABI::V6;

/// Denies everything. Tells how much of that the kernel took.
pub(crate) fn deny_all() -> Result<RulesetStatus, RulesetError> {
    Ok(denying(Scope::from_all(NEWEST))?.restrict_self()?.ruleset)
}

/// Denies everything but plain files and sockets in one folder, and signals: the processes that this one ends were started
/// before, and count as outside.
pub(crate) fn deny_all_but(folder: BorrowedFd<'_>) -> Result<RulesetStatus, RulesetError> {
    let files = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::RemoveFile;
    let ruleset = denying(Scope::AbstractUnixSocket.into())?.add_rule(PathBeneath::new(folder, files))?;
    Ok(ruleset.restrict_self()?.ruleset)
}

fn denying(scopes: landlock::BitFlags<Scope>) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(scopes)?
        .create()
}
