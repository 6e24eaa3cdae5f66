//! `enclave doctor`.

use crate::args::OutputArgs;
use crate::doctor::{Finding, Verdict, examine};
use crate::error::{Failure, Result};
use crate::output;

pub(crate) fn doctor(args: &OutputArgs) -> Result<()> {
    let findings = examine();
    output::print(args.format, &findings, |findings| text(findings))?;
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
