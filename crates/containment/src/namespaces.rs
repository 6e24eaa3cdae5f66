//! Namespaces of its own, and a root folder that holds nothing of the host's. See namespaces(7), user_namespaces(7),
//! pivot_root(2).

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::{
    DumpableBehavior, chdir, chroot, fchdir, getegid, geteuid, pivot_root, set_dumpable_behavior,
};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities};

use crate::{ContainmentError, Root, step};

/// What a process has to itself. A PID namespace is none of it: a process is born in one, or not.
const OWN: UnshareFlags = UnshareFlags::NEWNS
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWCGROUP);

/// A folder that every Linux host with KVM has. The new root is mounted over it, seen by this process alone.
const MOUNT_POINT: &str = "/proc";

/// Nothing in the new root is a program or a device.
const INERT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Why there are no namespaces.
pub(crate) enum Refused {
    /// This host does not allow them, and why.
    NotAllowed(String),
    /// Something else, in the middle of it: the process must not go on.
    Failed(ContainmentError),
}

impl From<ContainmentError> for Refused {
    fn from(error: ContainmentError) -> Self {
        Self::Failed(error)
    }
}

/// Enters namespaces of its own. The process may be traceable afterwards. Without privileges it takes a user namespace first, in which
/// it has the privileges that this needs and its own user and group, and nobody else's.
pub(crate) fn own(root: Root<'_>) -> Result<(), Refused> {
    if let Root::Folder(folder) = root {
        // Before the mounts are this process's own: the working directory follows it there, a descriptor would not.
        fchdir(folder).map_err(step("enter its folder"))?;
    }
    if capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)) {
        unshare(OWN).map_err(|errno| Refused::NotAllowed(explain(errno)))?;
    } else {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        unshare(OWN | UnshareFlags::NEWUSER).map_err(|errno| Refused::NotAllowed(explain(errno)))?;
        // The files of an untraceable process belong to root. The caller makes it untraceable again.
        set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(step("write its own files in /proc"))?;
        let map = |file: &str, line: String| {
            fs::write(format!("/proc/self/{file}"), line)
                .map_err(|error| ContainmentError { step: "keep its user in its user namespace", error })
        };
        map("uid_map", format!("{user} {user} 1"))?;
        map("setgroups", "deny".to_owned())?;
        map("gid_map", format!("{group} {group} 1"))?;
    }
    Ok(())
}

/// Makes `root` all that it sees of the host's files; to be called in namespaces of its own.
pub(crate) fn replace_root(root: Root<'_>) -> Result<(), Refused> {
    enter(root).map_err(|errno| match errno {
        // In a chroot, or under a policy that forbids mounts. The namespaces themselves stay.
        Errno::PERM | Errno::ACCESS | Errno::INVAL => {
            Refused::NotAllowed(format!("the root folder cannot be replaced ({errno})"))
        }
        errno => Refused::Failed(step("replace its root folder")(errno)),
    })
}

#[expect(
    deprecated,
    reason = "the safe form; what is unsafe about the other, sharing descriptors, is not asked for"
)]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

/// Makes `root` the root and working directory of this process, and lets go of the old one.
fn enter(root: Root<'_>) -> rustix::io::Result<()> {
    // Otherwise what is mounted here would appear in the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    match root {
        Root::Empty => mount("none", MOUNT_POINT, "tmpfs", INERT, c"mode=0555,size=4k,nr_inodes=2")?,
        Root::Folder(_) => mount_bind(".", MOUNT_POINT)?,
    }
    chdir(MOUNT_POINT)?;
    match pivot_root(".", ".") {
        // The old root now lies over the new one.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // A host that runs from its initial ramdisk has a root that cannot be replaced.
        Err(Errno::INVAL) => chroot(".")?,
        Err(errno) => return Err(errno),
    }
    chdir("/")?;
    match root {
        Root::Empty => mount_remount("/", INERT | MountFlags::RDONLY, ""),
        Root::Folder(_) => mount_remount("/", INERT | MountFlags::BIND, ""),
    }
}

/// Why this user gets no namespaces on this host.
fn explain(errno: Errno) -> String {
    let cause = match errno {
        Errno::PERM | Errno::ACCESS => "this host allows this user no namespaces of its own",
        Errno::NOSPC | Errno::USERS => "this host's limit on namespaces is reached",
        Errno::INVAL | Errno::NOSYS => "this kernel does not have all of them",
        _ => "the kernel refused",
    };
    format!("{cause} ({})", io::Error::from(errno))
}
