//! Signals to each process, and what is left when one is killed.

use std::fs::Permissions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Instant;

use enclave_hypervisor::channel::Channel;
use enclave_hypervisor::client::{self, Cleaned, LaunchError};
use enclave_hypervisor::control::{Envelope, Reply, Request};
use enclave_hypervisor::description::State;
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::launch::{LaunchEvent, PROTOCOL_VERSION};
use enclave_hypervisor::spawn::{Program, spawn};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Test;
use crate::world::{PATIENCE, Watched, World, child, image_with_ramdisk, own_supervisor, watch_all};

pub(crate) const TESTS: &[Test] = &[
    ("sigterm_ends_it_cleanly", sigterm_ends_it_cleanly),
    ("sigterm_stops_the_loading_of_a_large_image", sigterm_stops_the_loading_of_a_large_image),
    ("a_killed_machine_is_told", a_killed_machine_is_told),
    ("a_killed_security_module_is_told", a_killed_security_module_is_told),
    ("a_killed_supervisor_is_cleaned_up_after", a_killed_supervisor_is_cleaned_up_after),
    ("an_unfinished_folder_is_removed", an_unfinished_folder_is_removed),
    ("children_get_nothing_but_their_descriptors", children_get_nothing_but_their_descriptors),
    ("a_panic_s_message_is_kept", a_panic_s_message_is_kept),
    ("the_supervisor_is_its_own_session_and_holds_no_terminal", own_session),
    ("another_user_is_not_obeyed", another_user_is_not_obeyed),
    ("twenty_cycles_leak_nothing", twenty_cycles_leak_nothing),
];

fn supervisor(process_id: u32) -> Pid {
    Pid::from_raw(i32::try_from(process_id).unwrap()).unwrap()
}

fn sigterm_ends_it_cleanly() {
    let world = World::new("good");
    let running = world.running(|_| {});
    let processes = watch_all(&running);
    kill_process(supervisor(running.process_id), Signal::TERM).unwrap();
    let ended = client::wait(&world.root, &running).unwrap();
    assert_eq!(ended.exit_reason, Some(ExitReason::Signalled));
    assert_eq!(ended.exit_detail.as_deref(), Some("signal 15"));
    processes.iter().for_each(Watched::ends);
    assert!(!running.run_dir.join("control.sock").exists());
    assert!(!running.run_dir.join("vsock.sock").exists());
    assert!(client::clean_stale(&world.root).unwrap().is_empty());
}

fn sigterm_stops_the_loading_of_a_large_image() {
    const RAMDISK: u64 = 2 << 30;
    let world = World::new("good");
    let mut spec = world.spec();
    spec.memory_mib = 8 << 10;
    let image = image_with_ramdisk(RAMDISK, &world);
    let mut watched = None;
    let mut read = 0;
    let launched = world.launch_from(&spec, &image, &mut |event| {
        if let LaunchEvent::Loading { done, .. } = event {
            read = *done;
            watched.get_or_insert_with(|| {
                let supervisor = own_supervisor();
                let watched = Watched::new(supervisor);
                kill_process(supervisor, Signal::TERM).unwrap();
                watched
            });
        }
    });
    match launched {
        Err(LaunchError::Failed(failure)) => assert_eq!(failure.reason, ExitReason::Signalled, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    watched.unwrap().ends();
    assert!(read < RAMDISK, "all of it was read first");
    assert!(world.root.enclave_ids().unwrap().is_empty(), "a folder is left");
}

fn a_killed_machine_is_told() {
    let world = World::new("good");
    let running = world.running(|_| {});
    let processes = watch_all(&running);
    kill_process(child(running.process_id, "vm"), Signal::KILL).unwrap();
    let ended = client::wait(&world.root, &running).unwrap();
    assert_eq!(ended.exit_reason, Some(ExitReason::VmProcessKilled));
    assert!(ended.exit_detail.unwrap().contains("signal 9"));
    processes.iter().for_each(Watched::ends);
}

fn a_killed_security_module_is_told() {
    let world = World::new("good");
    let running = world.running(|_| {});
    let processes = watch_all(&running);
    kill_process(child(running.process_id, "security-module"), Signal::KILL).unwrap();
    let ended = client::wait(&world.root, &running).unwrap();
    assert_eq!(ended.exit_reason, Some(ExitReason::SecurityModuleKilled));
    processes.iter().for_each(Watched::ends);
}

fn a_killed_supervisor_is_cleaned_up_after() {
    let world = World::new("good");
    let running = world.running(|spec| spec.cid = Some(3_999_999_998));
    let processes = watch_all(&running);
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client::wait(&world.root, &running));
        kill_process(supervisor(running.process_id), Signal::KILL).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(waiting.unwrap().exit_reason, Some(ExitReason::SupervisorKilled));
    processes.iter().for_each(Watched::ends);
    // Told as it is before anybody cleaned up, and after.
    assert_eq!(client::find(&world.root, "tested").unwrap().exit_reason, Some(ExitReason::SupervisorKilled));
    let cleaned = client::clean_stale(&world.root).unwrap();
    assert!(matches!(cleaned.as_slice(), [Cleaned::SupervisorKilled { .. }]), "{cleaned:?}");
    assert!(cleaned[0].to_string().contains("tested"));
    assert!(client::clean_stale(&world.root).unwrap().is_empty());
    let found = client::find(&world.root, "tested").unwrap();
    assert_eq!((found.state, found.exit_reason), (State::Exited, Some(ExitReason::SupervisorKilled)));
    assert!(!running.run_dir.join("control.sock").exists());
    // Name and address are free again.
    let next = world.running(|spec| {
        spec.cid = Some(3_999_999_998);
        spec.exact_name = true;
    });
    assert_eq!(client::find(&world.root, "tested").unwrap(), next);
    client::terminate(&world.root, &next).unwrap();
    client::terminate(&world.root, &found).unwrap();
    assert!(client::list(&world.root).unwrap().is_empty());
}

fn an_unfinished_folder_is_removed() {
    let world = World::new("good");
    let folder = world.root.create(&world.root.lock().unwrap(), "i-0123456789abcdef0-encabc").unwrap();
    drop(folder.append_to("supervisor.log").unwrap());
    assert!(client::list(&world.root).unwrap().is_empty());
    let cleaned = client::clean_stale(&world.root).unwrap();
    assert!(matches!(cleaned.as_slice(), [Cleaned::Unfinished { .. }]), "{cleaned:?}");
    assert!(world.root.enclave_ids().unwrap().is_empty());
}

fn children_get_nothing_but_their_descriptors() {
    let world = World::new("lister");
    let failure = world.failing(|_| {});
    assert!(failure.message.ends_with("[0, 1, 2, 3, 4] 0"), "{}", failure.message);
}

fn a_panic_s_message_is_kept() {
    let world = World::new("panics");
    let failure = world.failing(|_| {});
    assert_eq!(failure.reason, ExitReason::VmProcessKilled);
    assert!(failure.message.contains("the stand-in gives up"), "{}", failure.message);
}

fn own_session() {
    let world = World::new("good");
    let running = world.running(|_| {});
    let pid = supervisor(running.process_id);
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
    for process in [pid, child(running.process_id, "vm"), child(running.process_id, "security-module")] {
        for number in [0, 1] {
            let target =
                std::fs::read_link(format!("/proc/{}/fd/{number}", process.as_raw_nonzero())).unwrap();
            assert_eq!(target.to_str(), Some("/dev/null"));
        }
        let ours = std::fs::read_link("/proc/self/fd/2").unwrap();
        let theirs = std::fs::read_link(format!("/proc/{}/fd/2", process.as_raw_nonzero())).unwrap();
        assert_ne!(ours, theirs);
    }
    client::terminate(&world.root, &running).unwrap();
}

fn another_user_is_not_obeyed() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED another_user_is_not_obeyed: only root can act as another user");
        return;
    }
    let world = World::new("good");
    let running = world.running(|_| {});
    // The folder keeps others out; here the door is opened, so that the supervisor's own check is what is left.
    let socket = running.run_dir.join("control.sock");
    std::fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let door = rustix::fs::open(&socket, flags, rustix::fs::Mode::empty()).unwrap();
    let program = Program::open(&world.program).unwrap();
    let stranger = spawn(&program, &["stranger"], &[door.as_fd()], rustix::stdio::stderr()).unwrap();
    assert!(stranger.wait().unwrap().success(), "the supervisor answered a stranger");
    assert_eq!(client::find(&world.root, "tested").unwrap().state, State::Running);
    client::terminate(&world.root, &running).unwrap();
}

/// Tries to end an enclave as another user, through a door that was left open. Succeeds if nobody answers.
pub(crate) fn stranger(door: OwnedFd) -> ExitCode {
    let nobody = rustix::process::Uid::from_raw(65_534);
    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", door.as_raw_fd())).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let channel = Channel::<Envelope, Reply>::new(socket);
    let request = ciborium::Value::serialized(&Request::Terminate).unwrap();
    // The connection may be closed before or after this.
    let _ = channel.send(&Envelope { version: PROTOCOL_VERSION, request }, &[]);
    if matches!(channel.receive(), Ok(Some(_))) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn twenty_cycles_leak_nothing() {
    let world = World::new("good");
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    // The threads that reap supervisors let go of them a moment after their end: those of earlier tests, too.
    let settle = || {
        let deadline = Instant::now() + PATIENCE;
        while count("/proc/self/task") > 1 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        count("/proc/self/fd")
    };
    let before = settle();
    for _ in 0..20 {
        let running = world.running(|_| {});
        let processes = watch_all(&running);
        client::terminate(&world.root, &running).unwrap();
        processes.iter().for_each(Watched::ends);
    }
    assert_eq!(settle(), before);
    assert!(world.root.enclave_ids().unwrap().is_empty());
}
