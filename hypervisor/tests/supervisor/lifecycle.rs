//! An enclave's life as commands see it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use enclave_hypervisor::channel::{Channel, pair};
use enclave_hypervisor::client::{self, ClientError, LaunchError};
use enclave_hypervisor::control::{Envelope, Reply};
use enclave_hypervisor::description::{Description, Flags, State};
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::launch::{LaunchEvent, LaunchSpec, PROTOCOL_VERSION};
use enclave_hypervisor::messages::SecurityIdentity;
use enclave_hypervisor::spawn::{Program, null, spawn};
use std::os::fd::AsFd;

use crate::harness::Test;
use crate::stand_in::CONSOLE_TEXT;
use crate::world::{Watched, World, image, read_all, watch_all};

pub(crate) const TESTS: &[Test] = &[
    ("created_started_and_terminated_leaves_nothing", created_started_and_terminated_leaves_nothing),
    ("events_come_in_order", events_come_in_order),
    ("an_application_s_end_is_told_and_kept", an_application_s_end_is_told_and_kept),
    ("a_reset_without_a_claim_is_a_reset", a_reset_without_a_claim_is_a_reset),
    ("a_missing_heartbeat_ends_it_with_the_console", a_missing_heartbeat_ends_it_with_the_console),
    ("names_are_unique_among_the_living", names_are_unique_among_the_living),
    ("an_address_in_use_is_named", an_address_in_use_is_named),
    ("without_kvm_the_next_step_is_told", without_kvm_the_next_step_is_told),
    ("a_missing_program_is_named", a_missing_program_is_named),
    ("a_bad_image_leaves_nothing", a_bad_image_leaves_nothing),
    ("an_identity_of_another_enclave_is_refused", an_identity_of_another_enclave_is_refused),
    (
        "without_an_identity_nothing_runs_and_nothing_is_left",
        without_an_identity_nothing_runs_and_nothing_is_left,
    ),
    ("the_console_is_followed_and_kept", the_console_is_followed_and_kept),
    ("production_has_no_console", production_has_no_console),
    ("an_unreachable_listener_is_reported", an_unreachable_listener_is_reported),
    (
        "a_listener_that_shuts_out_the_supervisor_s_user_is_reported",
        a_listener_that_shuts_out_the_supervisor_s_user_is_reported,
    ),
    ("two_commands_at_once_are_safe", two_commands_at_once_are_safe),
    ("a_start_whose_command_goes_away_is_undone", a_start_whose_command_goes_away_is_undone),
    ("a_second_identity_ends_the_start", a_second_identity_ends_the_start),
    ("another_protocol_version_is_refused_in_words", another_protocol_version_is_refused_in_words),
    ("a_long_run_folder_works", a_long_run_folder_works),
];

fn created_started_and_terminated_leaves_nothing() {
    let world = World::new("good");
    let created = world.running(|spec| spec.start = false);
    assert_eq!((created.state, created.heartbeat), (State::Created, false));
    assert_eq!(client::list(&world.root).unwrap(), std::slice::from_ref(&created));
    let processes = watch_all(&created);

    let started = client::start(&world.root, &created, &mut |_| {}).unwrap();
    assert_eq!((started.state, started.heartbeat), (State::Running, true));
    assert_eq!(client::find(&world.root, "tested").unwrap(), started);
    assert_eq!(client::find(&world.root, &started.enclave_id).unwrap(), started);
    let again = client::start(&world.root, &created, &mut |_| {}).unwrap_err();
    assert!(again.to_string().contains("runs already"), "{again}");

    let ended = client::terminate(&world.root, &started).unwrap();
    assert_eq!((ended.state, ended.exit_reason), (State::Exited, Some(ExitReason::Terminated)));
    processes.iter().for_each(Watched::ends);
    assert!(client::list(&world.root).unwrap().is_empty());
    assert!(!started.run_dir.exists());
    client::terminate(&world.root, &started).unwrap();
    let missing = client::find(&world.root, "tested").unwrap_err();
    assert!(matches!(missing, ClientError::NoSuchEnclave { .. }));
}

fn events_come_in_order() {
    let world = World::new("good");
    let mut events = Vec::new();
    let running = world.launch_events(&world.spec(), &mut |event| events.push(event.clone())).unwrap();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| match event {
            LaunchEvent::Loading { .. } => "loading",
            LaunchEvent::Measured(_) => "measured",
            LaunchEvent::Booting => "booting",
            LaunchEvent::Running(_) => "running",
            LaunchEvent::Created(_) | LaunchEvent::Failed(_) => "wrong",
        })
        .filter(|kind| *kind != "loading")
        .collect();
    assert_eq!(kinds, ["measured", "booting", "running"]);
    let image = running.measurements.clone().unwrap().registers;
    let attested = running.attested_pcrs.clone().unwrap();
    assert!(!image.pcr0.is_zero() && attested.pcr0.is_zero() && !attested.pcr4.is_zero());
    assert_eq!(running.flags, Flags::DebugMode);
    client::terminate(&world.root, &running).unwrap();
}

fn an_application_s_end_is_told_and_kept() {
    for (part, status) in [("exits", 7), ("claims", 128 + 9)] {
        let world = World::new(part);
        let running = world.running(|_| {});
        let ended = client::wait(&world.root, &running).unwrap();
        assert_eq!(ended.exit_reason, Some(ExitReason::ApplicationExited));
        assert_eq!(ended.exit_status, Some(status));
        assert_eq!(client::list(&world.root).unwrap(), std::slice::from_ref(&ended));
        assert_eq!(client::wait(&world.root, &running).unwrap(), ended);
        assert!(client::clean_stale(&world.root).unwrap().is_empty());
        let refused = client::connect(&world.root, &running, 1).unwrap_err();
        assert!(matches!(refused, ClientError::Ended { .. }), "{refused}");
        client::terminate(&world.root, &ended).unwrap();
        assert!(client::list(&world.root).unwrap().is_empty());
    }
}

fn a_reset_without_a_claim_is_a_reset() {
    let world = World::new("resets");
    assert_eq!(world.failing(|_| {}).reason, ExitReason::GuestReset);
    // It had run: it stays, to be looked at.
    let kept = client::find(&world.root, "tested").unwrap();
    assert_eq!(kept.exit_reason, Some(ExitReason::GuestReset));
    assert_eq!(kept.exit_status, None);
}

fn a_missing_heartbeat_ends_it_with_the_console() {
    let world = World::new("silent");
    let failure = world.failing(|spec| spec.heartbeat_timeout_ms = Some(50));
    assert_eq!(failure.reason, ExitReason::HeartbeatTimeout);
    assert_eq!(failure.console_tail.as_deref(), Some(CONSOLE_TEXT.trim_end()));
    let kept = client::find(&world.root, "tested").unwrap();
    assert_eq!(read_all(client::logs(&world.root, &kept).unwrap()), CONSOLE_TEXT);
    let failure = world.failing(|spec| {
        spec.heartbeat_timeout_ms = Some(50);
        spec.debug = false;
    });
    assert_eq!((failure.reason, failure.console_tail), (ExitReason::HeartbeatTimeout, None));
}

fn names_are_unique_among_the_living() {
    let world = World::new("good");
    let first = world.running(|_| {});
    let second = world.running(|_| {});
    assert_eq!((first.name.as_str(), second.name.as_str()), ("tested", "tested_1"));
    let refused = world.failing(|spec| spec.exact_name = true);
    assert_eq!(refused.reason, ExitReason::StartFailed);
    assert!(refused.message.contains("exists already"), "{}", refused.message);
    for name in ["", "a/b", "a\nb"] {
        let refused = world.failing(|spec| spec.name = name.to_owned());
        assert!(refused.message.contains("cannot be used"), "{}", refused.message);
    }
    client::terminate(&world.root, &first).unwrap();
    let third = world.running(|spec| spec.exact_name = true);
    assert_eq!(third.name, "tested");
    for enclave in [second, third] {
        client::terminate(&world.root, &enclave).unwrap();
    }
}

fn an_address_in_use_is_named() {
    const CID: u32 = 3_999_999_999;
    let (world, other_user) = (World::new("good"), World::new("good"));
    let first = world.running(|spec| spec.cid = Some(CID));
    assert_eq!(first.cid, CID);
    let refused = other_user.failing(|spec| spec.cid = Some(CID));
    assert!(refused.message.contains("3999999999") && refused.message.contains("in use"), "{refused:?}");
    client::terminate(&world.root, &first).unwrap();
    let free = other_user.running(|spec| spec.cid = Some(CID));
    client::terminate(&other_user.root, &free).unwrap();
}

fn without_kvm_the_next_step_is_told() {
    for (part, step) in [("no-kvm", "modprobe"), ("forbidden-kvm", "group kvm")] {
        let world = World::new(part);
        let failure = world.failing(|_| {});
        assert_eq!(failure.reason, ExitReason::StartFailed);
        assert!(failure.message.contains("/dev/kvm") && failure.message.contains(step), "{failure:?}");
        assert!(client::list(&world.root).unwrap().is_empty());
    }
}

fn a_missing_program_is_named() {
    let mut world = World::new("good");
    world.program.set_file_name("enclave-hypervisor");
    let Err(LaunchError::Client(error)) = world.launch(&world.spec()) else { panic!() };
    let text = error.to_string();
    assert!(
        text.contains("/enclave-hypervisor could not be started") && text.contains("make build"),
        "{text}"
    );
}

fn an_identity_of_another_enclave_is_refused() {
    let world = World::new("good");
    let (spec, other) = (world.spec(), world.spec());
    let mut other_role = world.identity(&spec);
    other_role.role.push('x');
    for wrong in [world.identity(&other), other_role] {
        let refused = world.launch_as(&spec, Some(wrong));
        let Err(LaunchError::Failed(failure)) = refused else { panic!("{refused:?}") };
        assert_eq!(failure.reason, ExitReason::StartFailed);
        assert!(failure.message.contains("another enclave's"), "{failure:?}");
    }
    assert!(world.root.enclave_ids().unwrap().is_empty());
}

fn without_an_identity_nothing_runs_and_nothing_is_left() {
    let world = World::new("good");
    let refused = world.launch_as(&world.spec(), None);
    assert!(matches!(refused, Err(LaunchError::NoIdentity)), "{refused:?}");
    assert!(client::list(&world.root).unwrap().is_empty());
    assert!(world.root.enclave_ids().unwrap().is_empty());
}

fn a_bad_image_leaves_nothing() {
    let world = World::new("good");
    let mut damaged = image();
    *damaged.last_mut().unwrap() ^= 1;
    for bytes in [damaged, image()[..600].to_vec(), Vec::new(), b"no image at all".repeat(100)] {
        let launched = world.launch_from(&world.spec(), &world.file(&bytes), &mut |_| {});
        match launched {
            Err(LaunchError::Failed(failure)) => assert_eq!(failure.reason, ExitReason::ImageRefused),
            other => panic!("{other:?}"),
        }
        assert!(client::list(&world.root).unwrap().is_empty());
        assert!(world.root.enclave_ids().unwrap().is_empty());
    }
}

fn the_console_is_followed_and_kept() {
    let world = World::new("talker");
    let running = world.running(|_| {});
    let mut live = client::console(&world.root, &running).unwrap();
    let mut beginning = vec![0; CONSOLE_TEXT.len()];
    live.read_exact(&mut beginning).unwrap();
    assert_eq!(beginning, CONSOLE_TEXT.as_bytes());
    assert_eq!(read_all(client::logs(&world.root, &running).unwrap()), CONSOLE_TEXT);
    let processes = watch_all(&running);
    rustix::process::kill_process(
        crate::world::child(running.process_id, "vm"),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    // The stream ends with the enclave, and what is kept can be had afterwards by both ways.
    assert_eq!(read_all(live), "");
    processes.iter().for_each(Watched::ends);
    assert_eq!(read_all(client::logs(&world.root, &running).unwrap()), CONSOLE_TEXT);
    assert_eq!(read_all(client::console(&world.root, &running).unwrap()), CONSOLE_TEXT);
}

fn production_has_no_console() {
    let world = World::new("good");
    let running = world.running(|spec| spec.debug = false);
    let attested = running.attested_pcrs.clone().unwrap();
    assert_eq!(attested.pcr0, running.measurements.clone().unwrap().registers.pcr0);
    let mut disguised = running.clone();
    for result in [client::logs(&world.root, &running).err(), client::console(&world.root, &running).err()] {
        assert!(matches!(result, Some(ClientError::NotDebug(_))));
    }
    // The supervisor does not take the command's word for the mode.
    disguised.flags = Flags::DebugMode;
    let refused = client::console(&world.root, &disguised).err().unwrap();
    assert!(refused.to_string().contains("production"), "{refused}");
    let files = std::fs::read_dir(&running.run_dir).unwrap();
    assert!(
        files.into_iter().all(|file| !file.unwrap().file_name().to_str().unwrap().starts_with("console"))
    );
    client::terminate(&world.root, &running).unwrap();
}

fn an_unreachable_listener_is_reported() {
    let world = World::new("caller");
    let running = world.running(|_| {});
    let found = client::find(&world.root, "tested").unwrap();
    let problem = &found.vsock_problems[0];
    assert_eq!((problem.port, &problem.path), (99, &running.run_dir.join("vsock.sock_99")));
    let log = std::fs::read_to_string(running.run_dir.join("supervisor.log")).unwrap();
    assert!(log.contains("vsock.sock_99"), "{log}");
    client::terminate(&world.root, &running).unwrap();
}

/// The supervisor of an enclave that root started is another user: it may not write to what only root may.
fn a_listener_that_shuts_out_the_supervisor_s_user_is_reported() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED a_listener_that_shuts_out_the_supervisor_s_user_is_reported: it takes root");
        return;
    }
    let world = World::new("caller");
    let created = world.running(|spec| spec.start = false);
    let door = created.run_dir.join("vsock.sock_99");
    let _listener = UnixListener::bind(&door).unwrap();
    std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o755)).unwrap();
    let running = client::start(&world.root, &created, &mut |_| {}).unwrap();
    let problem = &client::find(&world.root, "tested").unwrap().vsock_problems[0];
    assert_eq!((problem.port, &problem.path), (99, &door));
    assert!(problem.problem.contains("chmod a+w"), "{}", problem.problem);
    client::terminate(&world.root, &running).unwrap();
}

fn two_commands_at_once_are_safe() {
    let world = World::new("good");
    let created = world.running(|spec| spec.start = false);
    std::thread::scope(|scope| {
        let starts = [0, 1].map(|_| scope.spawn(|| client::start(&world.root, &created, &mut |_| {})));
        let results = starts.map(|start| start.join().unwrap());
        assert!(results.iter().any(Result::is_ok));
        for failed in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(failed.to_string().contains("runs already"), "{failed}");
        }
    });
    std::thread::scope(|scope| {
        let wait = || client::wait(&world.root, &created);
        let end = || client::terminate(&world.root, &created);
        let commands = [scope.spawn(wait), scope.spawn(end), scope.spawn(end)];
        for command in commands {
            match command.join().unwrap() {
                Ok(ended) => assert_eq!(ended.exit_reason, Some(ExitReason::Terminated)),
                // It came when everything was over and removed.
                Err(error) => assert!(matches!(error, ClientError::NoSuchEnclave { .. }), "{error}"),
            }
        }
    });
    assert!(client::list(&world.root).unwrap().is_empty());
}

/// Asks a supervisor for an enclave whose init says nothing, as a command would, then does `then` on the channel for its identity. The
/// start must end as one that its command gave up.
fn is_undone_after(then: impl FnOnce(&World, &LaunchSpec, Channel<SecurityIdentity, LaunchEvent>)) {
    let world = World::new("silent");
    let spec = world.spec();
    let (ours, theirs) = pair().unwrap();
    let program = Program::open(&world.program).unwrap();
    let supervisor =
        spawn(&program, &["supervisor", "on"], &[theirs.as_fd()], null().unwrap().as_fd()).unwrap();
    drop(theirs);
    let channel = Channel::<LaunchSpec, LaunchEvent>::new(ours);
    channel.send(&spec, &[world.file(&image()).as_fd()]).unwrap();
    then(&world, &spec, Channel::new(channel.into_socket()));
    assert!(supervisor.wait().unwrap().success());
    let kept: Description = client::find(&world.root, "tested").unwrap();
    assert_eq!((kept.state, kept.exit_reason), (State::Exited, Some(ExitReason::Terminated)));
}

fn a_start_whose_command_goes_away_is_undone() {
    is_undone_after(|world, spec, channel| {
        channel.send(&world.identity(spec), &[]).unwrap();
        while channel.receive().unwrap().unwrap().message != LaunchEvent::Booting {}
    });
}

fn a_second_identity_ends_the_start() {
    // Kept open: it is the second message that ends the start, not the end of the channel.
    let mut kept = None;
    is_undone_after(|world, spec, channel| {
        for _ in 0..2 {
            channel.send(&world.identity(spec), &[]).unwrap();
        }
        kept = Some(channel);
    });
    drop(kept);
}

fn another_protocol_version_is_refused_in_words() {
    let world = World::new("good");
    let refused = world.failing(|spec| spec.version = 77);
    assert!(refused.message.contains("version 77"), "{}", refused.message);

    let running = world.running(|_| {});
    let folder = enclave_hypervisor::unix_socket::open_folder(&running.run_dir).unwrap();
    let connect = || {
        let socket = enclave_hypervisor::unix_socket::connect(
            folder.as_fd(),
            "control.sock",
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::empty(),
        );
        Channel::<Envelope, Reply>::new(socket.unwrap())
    };
    let other = connect();
    let request = ciborium::Value::Text("something new".to_owned());
    other.send(&Envelope { version: 78, request: request.clone() }, &[]).unwrap();
    let Reply::Refused(why) = other.receive().unwrap().unwrap().message else { panic!() };
    assert!(why.contains("78"), "{why}");
    // What is no request, and what is no message, ends the connection and nothing else.
    let other = connect();
    other.send(&Envelope { version: PROTOCOL_VERSION, request }, &[]).unwrap();
    assert!(matches!(other.receive().unwrap().unwrap().message, Reply::Refused(_)));
    let other = connect();
    rustix::net::send(&other, b"\xff\xff", rustix::net::SendFlags::NOSIGNAL).unwrap();
    assert!(!matches!(other.receive(), Ok(Some(_))));
    assert_eq!(client::find(&world.root, "tested").unwrap().state, State::Running);
    client::terminate(&world.root, &running).unwrap();
}

fn a_long_run_folder_works() {
    let mut world = World::new("good");
    let long = world.root.path().join("x".repeat(150));
    world.root = client::RunRoot::at(long);
    let running = world.running(|_| {});
    let listener_path = running.run_dir.join("vsock.sock_9");
    assert!(UnixListener::bind(&listener_path).is_err(), "the path fits an address after all");
    client::terminate(&world.root, &running).unwrap();
    assert!(client::list(&world.root).unwrap().is_empty());
}
