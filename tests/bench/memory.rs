//! Memory of the three processes beyond the guest's, from /proc/PID/smaps.

use std::fs;

use tests::enclave::Start;
use tests::image;
use tests::processes;
use tests::product::User;

/// KiB of one process: resident, proportional, and private, without the guest's memory.
fn footprint(pid: u32) -> [u64; 3] {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut sums = [0; 3];
    let mut guests = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [range, _, _, _, _, ..] if range.contains('-') => guests = line.contains("enclave-memory"),
            [key, value, "kB"] if !guests => {
                let value: u64 = value.parse().unwrap();
                match *key {
                    "Rss:" => sums[0] += value,
                    "Pss:" => sums[1] += value,
                    "Private_Clean:" | "Private_Dirty:" => sums[2] += value,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    sums
}

pub(crate) fn measure() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "memory").run(&user);
    let supervisor = enclave.supervisor();
    let family = [
        ("supervisor", supervisor),
        ("virtual machine process", processes::child_with_argument(supervisor, "vm").unwrap()),
        ("security module", processes::child_with_argument(supervisor, "security-module").unwrap()),
    ];
    println!("| process, beyond guest memory | resident | proportional | private |\n|---|---|---|---|");
    let mut total = [0; 3];
    for (name, pid) in family {
        let sums = footprint(pid);
        println!("| {name} | {} KiB | {} KiB | {} KiB |", sums[0], sums[1], sums[2]);
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    println!("| all three | {} KiB | {} KiB | {} KiB |", total[0], total[1], total[2]);
    println!("\ngoal: at most 6144 KiB (the proportional sum counts shared pages once)");
}
