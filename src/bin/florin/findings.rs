//! What an examination found, printed for people.

use florin::service::{Finding, Verdict};

/// One line for each.
pub fn print_findings(findings: &[Finding]) {
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Fine => "fine",
            Verdict::NotExamined => "not examined",
            Verdict::Advice => "ADVICE",
            Verdict::Wrong => "WRONG",
        };
        println!("{:<25}  {verdict}: {}", finding.check, finding.detail);
    }
}
