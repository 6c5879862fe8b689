//! The loop's steps, in the order in which they run.

use std::fmt;
use std::sync::Arc;

use super::state::Work;
use super::step::{Stage, Step};
use crate::error::InvalidValue;
use crate::mermaid::node;

/// All steps of an agent: for each stage the host's before it, its own, and the host's after it.
pub(super) struct StepTable {
    rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) stage: Stage,
    /// `None` for the loop's own step.
    pub(super) host: Option<Arc<dyn Step>>,
}

/// A host's step and its place, as a builder collects them.
pub(super) struct Placed {
    pub(super) stage: Stage,
    pub(super) after: bool,
    pub(super) step: Arc<dyn Step>,
}

impl StepTable {
    pub(super) fn new(steps: &[Placed]) -> Result<Self, InvalidValue> {
        let mut rows: Vec<Row> = Vec::new();
        for stage in Stage::ALL {
            let hosts = |after: bool| {
                let here = steps.iter().filter(move |placed| placed.stage == stage && placed.after == after);
                here.map(move |placed| Row { stage, host: Some(placed.step.clone()) })
            };
            rows.extend(hosts(false));
            rows.push(Row { stage, host: None });
            rows.extend(hosts(true));
        }
        let table = Self { rows };
        for (index, row) in table.rows.iter().enumerate() {
            if table.find(row.name()) != Some(index) {
                return Err(InvalidValue::new("step name", row.name(), "a name that no other step of the agent has"));
            }
        }
        Ok(table)
    }

    pub(super) fn row(&self, at: usize) -> Option<&Row> {
        self.rows.get(at)
    }

    pub(super) fn name(&self, at: usize) -> &str {
        self.row(at).map_or("end", Row::name)
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        if name == "end" {
            return Some(self.rows.len());
        }
        self.rows.iter().position(|row| row.name() == name)
    }

    /// The stage at a row.
    pub(super) fn stage(&self, at: usize) -> Option<Stage> {
        self.row(at).map(|row| row.stage)
    }

    /// The row of the loop's own step of a stage.
    pub(super) fn own(&self, stage: Stage) -> usize {
        let own = |row: &Row| row.stage == stage && row.host.is_none();
        self.rows.iter().position(own).unwrap_or(self.rows.len())
    }

    /// The first row of a stage.
    pub(super) fn start_of(&self, stage: Stage) -> usize {
        self.rows.iter().position(|row| row.stage == stage).unwrap_or(self.rows.len())
    }

    /// The row after `at`, which depends on the work where a stage ends.
    pub(super) fn after(&self, at: usize, work: &Work) -> usize {
        let next = at + 1;
        let Some(row) = self.row(at) else { return next };
        if self.row(next).is_some_and(|next| next.stage == row.stage) {
            return next;
        }
        match (row.stage, work) {
            (Stage::Think, Work::Open(_)) => self.start_of(Stage::Act),
            (Stage::Think, Work::Closed(_) | Work::Draft(_)) => self.start_of(Stage::Conclude),
            (Stage::Act, _) => self.start_of(Stage::Fit),
            (Stage::Admit | Stage::Fit | Stage::Conclude, _) => next,
        }
    }

    /// The steps as a Mermaid flowchart.
    pub(super) fn to_mermaid(&self) -> String {
        let mut lines = vec!["flowchart TD".to_owned()];
        let last = |stage| node(self.rows.iter().rfind(|row| row.stage == stage).map_or("end", Row::name));
        let first = |stage| node(self.name(self.start_of(stage)));
        for pair in self.rows.windows(2) {
            let [row, next] = pair else { continue };
            if row.stage == next.stage {
                lines.push(format!("    {} --> {}", node(row.name()), node(next.name())));
            }
        }
        let edges = [
            (last(Stage::Admit), "", first(Stage::Fit)),
            (last(Stage::Fit), "", first(Stage::Think)),
            (last(Stage::Think), "|calls|", first(Stage::Act)),
            (last(Stage::Think), "|answer|", first(Stage::Conclude)),
            (last(Stage::Act), "|again|", first(Stage::Fit)),
            (node("conclude"), "|repair|", first(Stage::Fit)),
            (last(Stage::Conclude), "", "done([done])".to_owned()),
        ];
        lines.insert(1, format!("    start([start]) --> {}", first(Stage::Admit)));
        lines.extend(edges.iter().map(|(from, label, to)| format!("    {from} -->{label} {to}")));
        lines.push(String::new());
        lines.join("\n")
    }
}

impl Row {
    pub(super) fn name(&self) -> &str {
        self.host.as_ref().map_or(self.stage.name(), |step| step.name())
    }
}

impl fmt::Debug for StepTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rows.iter().map(Row::name)).finish()
    }
}
