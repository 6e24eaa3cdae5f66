//! `enclave doctor`.

use crate::args::DoctorArgs;
use crate::doctor::{Finding, Verdict, examine, processes};
use crate::enclaves;
use crate::error::{Failure, Result};
use crate::output;

pub(crate) fn doctor(args: &DoctorArgs) -> Result<()> {
    if let Some(name) = &args.enclave {
        let root = enclaves::open_root()?;
        let processes = processes::of(&enclaves::find(&root, name)?)?;
        return output::print(args.output.format, &processes, |processes| processes::text(processes));
    }
    let findings = examine();
    output::print(args.output.format, &findings, |findings| text(findings))?;
    let failures: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Failure)
        .map(|finding| finding.check)
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format_args!("enclaves cannot run on this host: {}", failures.join(", ")),
        "mend what is marked FAIL above; each says how",
    ))
}

fn text(findings: &[Finding]) -> String {
    findings.iter().map(paragraph).collect()
}

fn paragraph(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warning => "WARN",
        Verdict::Failure => "FAIL",
    };
    let mut text = format!("{mark}  {}: {}\n      {}\n", finding.check, finding.found, finding.meaning);
    for line in finding.mend.lines() {
        text.push_str(&format!("      mend: {line}\n"));
    }
    text
}
