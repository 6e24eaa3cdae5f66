//! The order of a boot, as AWS's init has it: devices and console, kernel modules, heartbeat, then the
//! application's description, its root, its start, and reaping until it ends. The machine restarts at the end,
//! whatever happened: for an enclave that is the end.
//!
//! Whatever fails is said on the console and, if vsock works, told to the host.

use std::path::Path;

use rustix::system::RebootCommand;

use crate::application::Application;
use crate::console::{self, say};
use crate::failure::Failure;
use crate::report::{self, Ending};
use crate::{attributes, heartbeat, launch, modules, mounts, network, reaper, signals};

/// Root of the initial file system.
const INITIAL_ROOT: &str = "/";

/// Folder of the image that becomes the application's root.
const IMAGE_ROOT: &str = "/rootfs";

/// Runs as process 1, from the kernel's hand-over to the restart.
pub fn run() -> ! {
    signals::block_all();
    // Process 1 cannot be killed by its own abort: without this hook a fault of ours would hang the machine.
    std::panic::set_hook(Box::new(|fault| finish(&Ending::Failed(format!("fault in init: {fault}")))));
    if std::process::id() != 1 {
        say("this program is the first process of an enclave and does nothing else");
        std::process::exit(2);
    }
    let ending = boot().unwrap_or_else(|failure| Ending::Failed(failure.to_string()));
    finish(&ending)
}

fn boot() -> Result<Ending, Failure> {
    let devices = mounts::early_devices();
    // Also without devices: the image may bring its own console node, and the failure shall be seen.
    console::open();
    devices?;
    let root = Path::new(INITIAL_ROOT);
    modules::load_all(root)?;
    heartbeat::send()?;
    let application = Application::take(root)?;
    let attributes = attributes::take(root)?;
    mounts::enter_root(IMAGE_ROOT)?;
    // Before mounts hide what they are for.
    attributes::set(&attributes)?;
    mounts::mount_all()?;
    network::loopback_up();
    network::set_hostname(&application.hostname);
    network::provide_hosts_file(root);
    reaper::wait_for(launch::launch(&application)?)
}

/// Says how it ended, on the console and to the host, and restarts the machine.
fn finish(ending: &Ending) -> ! {
    say(ending);
    // AWS's hypervisor does not listen, and a kernel without vsock cannot call: neither is a reason to stay.
    let _ = report::send(ending);
    console::drain();
    let Err(error) = rustix::system::reboot(RebootCommand::Restart) else { std::process::exit(1) };
    say(format_args!("cannot restart the machine: {error}"));
    // The end of process 1 is a kernel panic, and the kernel's own restart the last resort.
    std::process::exit(1)
}
