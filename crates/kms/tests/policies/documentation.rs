//! The examples of docs/kms.md are policies, and good ones.

use kms::policy::lint::{Severity, lint};
use serde_json::Value;

use crate::support::{policy, several};

const DOCUMENTATION: &str = include_str!("../../../../docs/kms.md");

fn examples() -> Vec<Value> {
    let blocks = DOCUMENTATION.split("```json\n").skip(1);
    let examples = blocks.map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap());
    examples.filter(|example: &Value| example.get("Effect").is_some()).collect()
}

#[test]
fn every_example_is_read_and_has_nothing_to_mend() {
    let examples = examples();
    assert_eq!(examples.len(), 6);
    for example in &examples[1..] {
        let policy = policy(&several(&[examples[0].clone(), example.clone()]));
        let worse: Vec<_> = lint(&policy).into_iter().filter(|one| one.severity > Severity::Note).collect();
        assert_eq!(worse, [], "{example}");
    }
}
