//! File systems: the image's root becomes `/`, with what programs expect to find in it.
//!
//! The layout is the one that AWS's init makes. Two differences: /tmp and /run may hold executables (runtimes
//! unpack and run code there), and a kernel whose cgroups are version 2 alone gets that one mounted.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};

use crate::console::say;
use crate::failure::Failure;
use crate::files;

/// One mount inside the root.
struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static str,
    /// Whether applications in general cannot do without it.
    required: bool,
}

const NOSUID_NODEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DATA_ONLY: MountFlags = NOSUID_NODEV.union(MountFlags::NOEXEC);
const PSEUDO_TERMINALS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// In order: each mount may hide what a former one put there.
const MOUNTS: &[Mount] = &[
    required("dev", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755"),
    required("proc", "/proc", "proc", DATA_ONLY, ""),
    required("tmpfs", "/run", "tmpfs", NOSUID_NODEV, "mode=0755"),
    required("tmpfs", "/tmp", "tmpfs", NOSUID_NODEV, "mode=1777"),
    required("shm", "/dev/shm", "tmpfs", DATA_ONLY, "mode=1777"),
    optional("devpts", "/dev/pts", "devpts", PSEUDO_TERMINALS, "mode=0620,ptmxmode=0666"),
    optional("sysfs", "/sys", "sysfs", DATA_ONLY, ""),
];

/// Where control groups are mounted; the folder is there if the kernel has any.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Nodes that every user may open, as distributions' device managers have it. The kernel makes the first one for
/// root alone, and programs that run as somebody else ask it for their own context id.
const OPEN_TO_ALL: &[&str] = &["/dev/vsock", "/dev/nsm"];

/// Links that shells and scripts rely on.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

const fn required(
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static str,
) -> Mount {
    Mount { source, target, kind, flags, data, required: true }
}

const fn optional(
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static str,
) -> Mount {
    Mount { source, target, kind, flags, data, required: false }
}

/// Mounts devices on /dev of the initial file system, where the console and the drivers' nodes are.
pub fn early_devices() -> Result<(), Failure> {
    make_folder("/dev")?;
    match mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755") {
        // Busy: the kernel has done it already (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(Failure::system("cannot mount devtmpfs on /dev", error)),
    }
}

/// Makes the folder `image_root` the root of everything that follows.
///
/// The initial file system is not a mount that pivot_root(2) could leave, so the folder becomes a mount of its
/// own, is moved over the root, and a chroot follows the move.
pub fn enter_root(image_root: &str) -> Result<(), Failure> {
    let failed = |step: &str, error| Failure::system(format!("cannot enter {image_root} ({step})"), error);
    if !Path::new(image_root).is_dir() {
        return Err(Failure::new(format!("the image has no folder {image_root}")));
    }
    mount_bind(image_root, image_root).map_err(|error| failed("bind mount", error))?;
    rustix::process::chdir(image_root).map_err(|error| failed("chdir", error))?;
    mount_move(".", "/").map_err(|error| failed("move to /", error))?;
    rustix::process::chroot(".").map_err(|error| failed("chroot", error))?;
    rustix::process::chdir("/").map_err(|error| failed("chdir to /", error))
}

/// Mounts everything that belongs into the root, and makes the usual links.
pub fn mount_all() -> Result<(), Failure> {
    for mount in MOUNTS {
        apply(mount)?;
    }
    for (target, link) in LINKS {
        match symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(files::failed("cannot make the link", Path::new(link), &error));
            }
            _ => {}
        }
    }
    for node in OPEN_TO_ALL {
        // The driver may be missing, and then so is the node.
        let _ = fs::set_permissions(node, fs::Permissions::from_mode(0o666));
    }
    mount_cgroups();
    Ok(())
}

fn apply(entry: &Mount) -> Result<(), Failure> {
    make_folder(entry.target)?;
    let data = entry.data;
    match mount(entry.source, entry.target, entry.kind, entry.flags, option_text(data).as_deref()) {
        Ok(()) => Ok(()),
        Err(Errno::NODEV) if !entry.required => {
            say(format_args!("this kernel has no {}: {} stays empty", entry.kind, entry.target));
            Ok(())
        }
        Err(error) => Err(Failure::system(format!("cannot mount {} on {}", entry.kind, entry.target), error)),
    }
}

fn option_text(data: &str) -> Option<std::ffi::CString> {
    if data.is_empty() { None } else { std::ffi::CString::new(data).ok() }
}

/// Control groups: one version 1 hierarchy per controller as on AWS, or version 2 if the kernel has no other.
///
/// Nothing in the boot depends on them, so a kernel that refuses leaves the folder empty.
fn mount_cgroups() {
    if !Path::new(CGROUP_ROOT).is_dir() {
        return;
    }
    let controllers = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    if mount("cgroup_root", CGROUP_ROOT, "tmpfs", DATA_ONLY, c"mode=0755").is_err() {
        return;
    }
    let mounted = enabled_controllers(&controllers).filter(|name| mount_controller(name)).count();
    if mounted == 0 {
        // The reason to leave the tmpfs: version 2 goes on the folder itself.
        let _ = rustix::mount::unmount(CGROUP_ROOT, rustix::mount::UnmountFlags::empty());
        if let Err(error) = mount("cgroup2", CGROUP_ROOT, "cgroup2", DATA_ONLY, None) {
            say(format_args!("cannot mount cgroup2 on {CGROUP_ROOT}: {error}"));
        }
    }
}

fn mount_controller(name: &str) -> bool {
    let folder = format!("{CGROUP_ROOT}/{name}");
    let Ok(option) = std::ffi::CString::new(name) else { return false };
    if make_folder(&folder).is_err() {
        return false;
    }
    if mount(name, &folder, "cgroup", DATA_ONLY, option.as_c_str()).is_ok() {
        return true;
    }
    // A controller that exists in version 2 only: leave no empty folder behind that looks like one.
    let _ = fs::remove_dir(&folder);
    false
}

/// Names in /proc/cgroups whose last column says that they are enabled.
fn enabled_controllers(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split_whitespace();
        let name = columns.next()?;
        (columns.nth(2)? == "1" && !name.contains('/') && !name.starts_with('.')).then_some(name)
    })
}

fn make_folder(path: &str) -> Result<(), Failure> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(files::failed("cannot make the folder", Path::new(path), &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_controllers_are_named() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
                     cpuset\t0\t1\t1\ncpu\t0\t1\t1\nmemory\t0\t1\t0\npids\t2\t10\t1\n";
        assert_eq!(enabled_controllers(table).collect::<Vec<_>>(), ["cpuset", "cpu", "pids"]);
    }

    #[test]
    fn a_table_that_makes_no_sense_names_nothing() {
        for table in ["", "#only a heading\n", "cpu\ncpu 1\ncpu 1 2\n", "../x 0 1 1\n.. 0 1 1\n", "\n\n"] {
            assert_eq!(enabled_controllers(table).count(), 0, "{table:?}");
        }
    }

    #[test]
    fn a_missing_root_is_named() {
        let message = enter_root("/no/such/rootfs").unwrap_err().to_string();
        assert_eq!(message, "the image has no folder /no/such/rootfs");
    }

    #[test]
    fn mounts_hide_nothing_that_an_earlier_one_made() {
        for (index, later) in MOUNTS.iter().enumerate() {
            for earlier in &MOUNTS[..index] {
                assert!(
                    !earlier.target.starts_with(later.target),
                    "{} hides {}",
                    later.target,
                    earlier.target
                );
            }
        }
    }
}
