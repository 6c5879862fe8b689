agent_core::graph_state! {
    struct Folder updated by FolderUpdate {
        path: String => replace,
        summaries: Vec<String>,
    }
}

fn main() {}
