use std::sync::Arc;

use agent_core::AgentError;
use agent_core::graph::{Branch, Graph, branch, node};

agent_core::graph_state! {
    struct Folder updated by FolderUpdate {
        path: String => replace,
    }
}

agent_core::graph_state! {
    struct Other updated by OtherUpdate {
        words: u64 => add,
    }
}

async fn of_another(_: Arc<Other>) -> Result<OtherUpdate, AgentError> {
    Ok(OtherUpdate::default())
}

const FILES: Branch<String> = Branch::new("files");

async fn of_another_input(_: u64) -> Result<FolderUpdate, AgentError> {
    Ok(FolderUpdate::default())
}

fn main() {
    let _ = Graph::<Folder>::builder("graph").node(node("other", of_another));
    let _ = Graph::<Folder>::builder("graph").node(branch(FILES, of_another_input));
    let _ = FILES.with(7_u64);
    let _ = FolderUpdate::default().words(7);
}
