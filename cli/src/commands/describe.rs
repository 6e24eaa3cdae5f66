//! `enclave describe`, and how one enclave is shown.

use enclave_hypervisor::description::{ContainmentLevel, Description, Flags, PhaseTiming, State};

use crate::args::DescribeArgs;
use crate::enclaves;
use crate::error::Result;
use crate::output::{self, Fields, printable};

/// Characters of the longest bar in the chart of phases.
const BAR_WIDTH: u64 = 40;

pub(crate) fn describe(args: &DescribeArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    match &args.name {
        Some(name) => {
            let found = vec![enclaves::find(&root, name)?];
            output::print(args.output.format, &found, |found| found.iter().map(one).collect())
        }
        None => output::print(args.output.format, &enclaves::list(&root)?, |all| table(all)),
    }
}

/// Everything about one enclave, for people.
pub(crate) fn one(enclave: &Description) -> String {
    let mut fields = Fields::default();
    fields
        .add("Name", printable(&enclave.name))
        .add("EnclaveID", &enclave.enclave_id)
        .add("State", state(enclave))
        .add(
            "Mode",
            if enclave.flags == Flags::DebugMode {
                "debug: documents prove nothing about the image"
            } else {
                "production"
            },
        )
        .add("Vsock CID", enclave.cid)
        .add("CPUs", format_args!("{} on host CPUs {}", enclave.number_of_cpus, cpu_list(&enclave.cpu_ids)))
        .add("Memory", format_args!("{} MiB", enclave.memory_mib))
        .add("Process", enclave.process_id)
        .add("Folder", enclave.run_dir.display());
    if let Some(measurements) = &enclave.measurements {
        super::eif::add_measurements(&mut fields, &measurements.registers);
    }
    if let Some(attested) = &enclave.attested_pcrs {
        if enclave.flags == Flags::DebugMode {
            fields.add("Attested PCR0", format_args!("{} (debug mode)", attested.pcr0));
        }
        fields.add("PCR3 (role)", attested.pcr3).add("PCR4 (host)", attested.pcr4);
    }
    if let Some(reason) = enclave.exit_reason {
        fields.add("Ended", format_args!("{reason}: {}", reason.explanation()));
    }
    if let Some(status) = enclave.exit_status {
        fields.add("Exit status", format_args!("{status} (as the guest tells)"));
    }
    // With a status, the detail only repeats it.
    if let (Some(detail), None) = (&enclave.exit_detail, enclave.exit_status) {
        fields.add("Detail", printable(detail));
    }
    for problem in &enclave.vsock_problems {
        let path = problem.path.display();
        fields
            .add(format!("Vsock port {}", problem.port), printable(&format!("{path}: {}", problem.problem)));
    }
    let contained = match enclave.containment {
        ContainmentLevel::Full => "fully",
        ContainmentLevel::Partial => "as far as this host allows",
        ContainmentLevel::Off => "not at all, as asked",
    };
    fields.add("Contained", contained);
    for missing in &enclave.containment_missing {
        fields.add("Not contained", printable(missing));
    }
    fields.render(0) + &chart(&enclave.timings)
}

fn state(enclave: &Description) -> String {
    match (enclave.state, enclave.heartbeat) {
        (State::Created, _) => "CREATED (`enclave start` runs it)".to_owned(),
        (State::Running, true) => "RUNNING".to_owned(),
        (State::Running, false) => "RUNNING, no heartbeat yet".to_owned(),
        (State::Terminating, _) => "TERMINATING".to_owned(),
        (State::Exited, _) => "EXITED (`enclave terminate` forgets it)".to_owned(),
    }
}

/// A bar for each phase of the start.
fn chart(timings: &[PhaseTiming]) -> String {
    let longest = timings.iter().map(|timing| timing.microseconds).max().unwrap_or(0).max(1);
    let width = timings.iter().map(|timing| timing.phase.chars().count()).max().unwrap_or(0);
    let mut text = if timings.is_empty() { String::new() } else { "Start\n".to_owned() };
    for timing in timings {
        let length =
            usize::try_from(timing.microseconds.saturating_mul(BAR_WIDTH).div_ceil(longest)).unwrap_or(0);
        let (whole, rest) = (timing.microseconds / 1000, timing.microseconds % 1000 / 100);
        let duration = format!("{whole}.{rest}");
        text.push_str(&format!(
            "  {:<width$}  {duration:>9} ms  {}\n",
            printable(&timing.phase),
            "#".repeat(length)
        ));
    }
    text
}

/// One line for each enclave.
fn table(all: &[Description]) -> String {
    if all.is_empty() {
        return "No enclaves. `enclave run` starts one.\n".to_owned();
    }
    let mut rows = vec![["NAME", "STATE", "CID", "CPUS", "MEMORY", "MODE", "ENCLAVEID"].map(str::to_owned)];
    rows.extend(all.iter().map(|enclave| {
        let state = match enclave.exit_reason {
            Some(reason) => format!("EXITED ({reason})"),
            None => format!("{:?}", enclave.state).to_uppercase(),
        };
        [
            printable(&enclave.name),
            state,
            enclave.cid.to_string(),
            enclave.number_of_cpus.to_string(),
            format!("{} MiB", enclave.memory_mib),
            if enclave.flags == Flags::DebugMode { "debug" } else { "production" }.to_owned(),
            enclave.enclave_id.clone(),
        ]
    }));
    aligned(&rows)
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| -> String {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// CPU numbers as people write them.
pub(crate) fn cpu_list(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_phase_has_the_longest_bar_and_no_phase_none() {
        let timing = |phase: &str, microseconds| PhaseTiming { phase: phase.to_owned(), microseconds };
        let text = chart(&[timing("load", 2_000), timing("boot", 80_050), timing("rest", 1)]);
        let bars: Vec<usize> = text.lines().skip(1).map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [1, 40, 1]);
        assert!(text.contains("80.0 ms"), "{text}");
        assert_eq!(chart(&[]), "");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(aligned(&[row("A", "B"), row("long", "x")]), "A     B\nlong  x\n");
    }
}
