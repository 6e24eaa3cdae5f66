//! `enclave kms lint`: mistakes in a policy that the service would take.

use kms::policy::lint::{Finding, Severity, lint as lint_key, lint_identity};
use serde::Serialize;

use super::policies::{STATUS_TROUBLE, identity_policy, key_policy};
use crate::args::KmsLintArgs;
use crate::error::Result;
use crate::output::{self, plural, printable};

/// Exit status if there is something to mend.
const STATUS_FOUND: u8 = 1;

/// Checks a policy; the value is the exit status.
pub(super) fn lint(args: &KmsLintArgs) -> Result<u8> {
    let findings = findings(args).map_err(|failure| failure.with_status(STATUS_TROUBLE))?;
    let report =
        Report { clean: findings.iter().all(|finding| finding.severity == Severity::Note), findings };
    output::print(args.output.format, &report, Report::text)?;
    Ok(if report.clean { 0 } else { STATUS_FOUND })
}

fn findings(args: &KmsLintArgs) -> Result<Vec<Finding>> {
    if args.identity {
        return identity_policy(&args.policy).map(|policy| lint_identity(&policy));
    }
    key_policy(&args.policy).map(|policy| lint_key(&policy))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    /// Nothing worse than notes.
    clean: bool,
    findings: Vec<Finding>,
}

impl Report {
    fn text(&self) -> String {
        if self.findings.is_empty() {
            return "Nothing found.\n".to_owned();
        }
        let mut text: String = self.findings.iter().map(line).collect();
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        text.push_str(&format!(
            "{}, {}, {}.\n",
            plural(count(Severity::Error), "error", "errors"),
            plural(count(Severity::Warning), "warning", "warnings"),
            plural(count(Severity::Note), "note", "notes"),
        ));
        text
    }
}

fn line(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let sid = finding.sid.as_deref().map_or_else(String::new, |sid| format!(" \"{}\"", printable(sid)));
    let place = finding.statement.map_or_else(String::new, |index| format!(" in Statement[{index}]{sid}"));
    format!("{severity}{place}: {}\n  {}\n", printable(&finding.what), finding.advice)
}
