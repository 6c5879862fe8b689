agent_core::graph_state! {
    struct Folder updated by FolderUpdate {
        path: bool => append,
        files: String => merge,
        known: char => add,
        words: u64 => sum,
        longest: u64 => by(std::cmp::max),
    }
}

fn main() {}
