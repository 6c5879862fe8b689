//! What is wrong with a graph, and how a run of one fails.

use crate::error::{ErrorCode, InvalidValue};

/// What is wrong with a graph that was to be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidGraph {
    /// Two nodes have one name.
    #[error("there are two nodes `{node}`")]
    DuplicateNode {
        /// The name.
        node: String,
    },
    /// A node has no name, or that of the start or the end.
    #[error("a node cannot be named `{node}`")]
    ReservedName {
        /// The name.
        node: String,
    },
    /// Something leads to or from a node that there is none of.
    #[error("{place} names the node `{node}`, which is none; the nodes are: {known}")]
    UnknownNode {
        /// Where the name stands.
        place: String,
        /// The name.
        node: String,
        /// All nodes.
        known: String,
    },
    /// A node declares a field that the state has not.
    #[error("the node `{node}` writes `{field}`, which is no field; the fields are: {known}")]
    UnknownField {
        /// The node.
        node: String,
        /// The name.
        field: String,
        /// All fields.
        known: String,
    },
    /// Nothing leads from the start.
    #[error("nothing leads from the start")]
    NoStart,
    /// No way leads from the start to a node.
    #[error("no way leads from the start to `{node}`")]
    Unreachable {
        /// The node.
        node: String,
    },
    /// No way leads from a node to the end.
    #[error("no way leads from `{node}` to the end")]
    NoEnd {
        /// The node.
        node: String,
    },
    /// An edge leads to a branch, which runs only for tasks.
    #[error("{place} leads to the branch `{node}`, which runs only for a task that a route or a node gives it")]
    BranchWithoutTask {
        /// What leads there.
        place: String,
        /// The branch.
        node: String,
    },
    /// Two nodes that always run in one step write a field that keeps only one of their values.
    #[error("`{first}` and `{second}` run in one step and both replace `{field}`")]
    ParallelWriters {
        /// The field.
        field: String,
        /// One node.
        first: String,
        /// The other.
        second: String,
    },
    /// A join waits for fewer than two nodes, or for one twice.
    #[error("the join before `{node}` waits for fewer than two different nodes")]
    JoinOfOne {
        /// The node after the join.
        node: String,
    },
    /// A node, or the graph, may run nothing.
    #[error("`{node}` has a limit of zero")]
    ZeroLimit {
        /// The node, or the graph.
        node: String,
    },
    /// A function that a node calls cannot be called.
    #[error("`{node}` calls what cannot be called: {problem}")]
    InvalidFunction {
        /// The node.
        node: String,
        /// What is wrong with the function.
        problem: InvalidValue,
    },
    /// Graphs nest deeper than saved states may.
    #[error("in `{graph}` more than {most} graphs are within each other")]
    TooDeep {
        /// The outermost.
        graph: String,
        /// How many may be.
        most: u32,
    },
    /// A deferred node cannot be given tasks, or be joined.
    #[error("`{node}` is deferred, and runs for no tasks")]
    DeferredBranch {
        /// The node.
        node: String,
    },
}

impl InvalidGraph {
    /// Always `graph.invalid`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new("graph.invalid")
    }
}

/// How a run of a graph fails by the graph's own fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphFailure {
    /// Two tasks of one step wrote a field that keeps only one of their values.
    #[error("`{first}` and `{second}` both replaced `{field}` in step {step}")]
    Conflict {
        /// The field.
        field: &'static str,
        /// One node.
        first: String,
        /// The other, which may be the same.
        second: String,
        /// The step.
        step: u32,
    },
    /// A node wrote a field that it had not declared.
    #[error("`{node}` wrote `{field}`, which it had not declared")]
    UndeclaredWrite {
        /// The node.
        node: String,
        /// The field.
        field: &'static str,
    },
    /// A node or a route went where it had not declared to go.
    #[error("`{node}` went to `{target}`, which it had not declared")]
    UndeclaredTarget {
        /// The node, or the one that the route follows.
        node: String,
        /// Where it went.
        target: String,
    },
    /// A branch was run without a task, or with an input of another type.
    #[error("the branch `{node}` was not given what it takes")]
    WrongInput {
        /// The branch.
        node: String,
    },
    /// A node waited that has nothing to take the answer with.
    #[error("`{node}` waits, and nothing would take the answer")]
    NoHandler {
        /// The node.
        node: String,
    },
    /// A node took too long.
    #[error("`{node}` took too long")]
    Timeout {
        /// The node.
        node: String,
    },
    /// The graph had not ended after as many steps as it may take.
    #[error("no end after {steps} steps")]
    StepLimit {
        /// How many.
        steps: u32,
    },
}

impl GraphFailure {
    /// `graph.conflict`, `graph.undeclared_write`, `graph.undeclared_target`, `graph.wrong_input`, `graph.no_handler`,
    /// `graph.timeout` or `graph.step_limit`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::Conflict { .. } => "graph.conflict",
            Self::UndeclaredWrite { .. } => "graph.undeclared_write",
            Self::UndeclaredTarget { .. } => "graph.undeclared_target",
            Self::WrongInput { .. } => "graph.wrong_input",
            Self::NoHandler { .. } => "graph.no_handler",
            Self::Timeout { .. } => "graph.timeout",
            Self::StepLimit { .. } => "graph.step_limit",
        })
    }
}
