//! A guest that attacks its devices from below its kernel's drivers: what it does stays its own.

use std::time::{Duration, Instant};

use tests::enclave::Start;
use tests::product::User;
use tests::{diagnosis, hostile, image, processes, visit};

/// Ways of attacking, one after the other: tests/hostile-guest/src/main.rs. The last one may well be the guest's end.
const MODES: [&str; 3] = ["instead", "beside", "reckless"];
/// Seconds of all of them together.
const SECONDS: u64 = 12;
/// Within which time a neighbour must answer. A neighbour that an attack can hold up is held up for as long as the attack goes
/// on, and that is longer; what is shorter is the machine's load, which `make bench` (`neighbour`) tells apart.
const ANSWER: Duration = Duration::from_secs(5);
/// Within which time `terminate` must take effect. The supervisor kills a machine that does not stop within half a second; the rest
/// is overwriting its memory, on a machine that may be busy. The attack itself would go on for ever.
const TERMINATION: Duration = Duration::from_secs(30);
/// What an attack may add to the private memory of an enclave's three processes, in KiB: 8 MiB that its 32 host programs do not
/// read, less than 4 MiB for the state of as many connections as there can be, and what allocators keep.
const GROWTH_KIB: u64 = 16 * 1024;
/// Ways in which a guest may end by what it does to itself.
const ENDS: [&str; 5] = ["GuestReset", "AcpiReset", "AcpiPowerOff", "TripleFault", "KvmError"];

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_guest_that_attacks_its_devices_harms_neither_host_nor_neighbour() {
    let user = User::new();
    let neighbour = Start::new(&image::demo(), "visited").run(&user);
    let duration = hostile::seconds(SECONDS);
    let each = duration / u32::try_from(MODES.len()).unwrap();
    let enclave = hostile::start(&hostile::attacking(&MODES, each, hostile::seed()), "hostile", &user);
    let supervisor = enclave.supervisor();
    let family = processes::children(supervisor);
    let memory = || [supervisor, neighbour.supervisor()].map(diagnosis::private_memory_kib);
    let before = memory();

    let end = Instant::now() + duration;
    let (mut round_trips, mut longest) = (0, Duration::ZERO);
    let mut programs = hostile::Programs::of(&enclave);
    while Instant::now() < end {
        programs.work();
        let trips = visit::visit(&neighbour, Duration::from_secs(1), ANSWER);
        round_trips += trips.echo.len();
        longest = trips.all().max().unwrap_or_default().max(longest);
        for (now, before) in memory().into_iter().zip(before) {
            assert!(
                now < before + GROWTH_KIB,
                "from {before} to {now} KiB\n{}",
                diagnosis::diagnosis(&enclave)
            );
        }
    }
    println!("{round_trips} round trips, the longest answer took {longest:?}");

    let reports = hostile::reports(&enclave, &user);
    println!("{:?} to {:?}", reports.first(), reports.last());
    let mut described = enclave.describe();
    if described["State"] == "TERMINATING" {
        let _ = enclave.wait();
        described = enclave.describe();
    }
    println!("{} {}", described["State"], described["ExitReason"]);
    match described["ExitReason"].as_str() {
        Some(reason) => assert!(ENDS.contains(&reason), "{}", diagnosis::diagnosis(&enclave)),
        None => {
            assert_eq!(described["State"], "RUNNING", "{described}");
            let was_reached = |mode: &&str| reports.iter().any(|report| report.contains(mode));
            assert!(MODES.iter().all(was_reached), "{reports:?}");
        }
    }
    let began = Instant::now();
    let stopped = std::thread::scope(|scope| {
        let watching =
            scope.spawn(|| family.iter().all(|pid| processes::ended(*pid)).then(|| began.elapsed()));
        let _ = enclave.terminate().success();
        watching.join().unwrap()
    });
    println!("its processes took {stopped:?} to end, terminate {:?}", began.elapsed());
    assert!(stopped.is_some() && began.elapsed() < TERMINATION);
    assert!(!enclave.run_dir().exists() && processes::ended(supervisor));
}
