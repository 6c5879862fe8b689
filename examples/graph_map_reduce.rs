//! A graph that reads the Markdown files of a folder, summarises each in a branch of its own, and puts the summaries together. It needs
//! no key, server or network: a summary is the sentences of a file that say most of what it says.
//!
//! ```text
//! cargo run --example graph_map_reduce -- docs
//! cargo run --example graph_map_reduce -- docs 3     # three sentences of each file
//! ```
// An example talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use adjutant::agent_core::graph::{Branch, END, Goto, Graph, InvalidGraph, START, branch, node};
use adjutant::agent_core::{AgentError, graph_state};
use adjutant::{CallError, Caller};

graph_state! {
    #[derive(Debug, Default)]
    struct Folder updated by FolderUpdate {
        path: PathBuf => replace,
        sentences: usize => replace,
        files: Vec<PathBuf> => replace,
        /// By file, so that their order is that of the files, whichever was read first.
        summaries: BTreeMap<PathBuf, String> => merge,
        words: usize => add,
        report: String => replace,
    }
}

const SUMMARISE: Branch<PathBuf> = Branch::new("summarise");

async fn list(folder: Arc<Folder>) -> Result<FolderUpdate, CallError> {
    let mut files = Vec::new();
    let mut entries = tokio::fs::read_dir(&folder.path).await.map_err(|error| unreadable(&folder.path, &error))?;
    while let Some(entry) = entries.next_entry().await.map_err(|error| unreadable(&folder.path, &error))? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(FolderUpdate::default().files(files))
}

async fn summarise(file: PathBuf, folder: Arc<Folder>, _: adjutant::RunContext) -> Result<FolderUpdate, CallError> {
    let text = tokio::fs::read_to_string(&file).await.map_err(|error| unreadable(&file, &error))?;
    let sentences = sentences(&text);
    let words = sentences.iter().map(|sentence| sentence.split_whitespace().count()).sum();
    let summary = best(&sentences, folder.sentences).join(" ");
    Ok(FolderUpdate::default().summaries(BTreeMap::from([(file, summary)])).words(words))
}

async fn reduce(folder: Arc<Folder>) -> Result<FolderUpdate, AgentError> {
    let mut report = format!("{} files, {} words\n", folder.summaries.len(), folder.words);
    for (file, summary) in &folder.summaries {
        report += &format!("\n{}\n  {summary}\n", file.display());
    }
    Ok(FolderUpdate::default().report(report))
}

fn graph() -> Result<Graph<Folder>, InvalidGraph> {
    Graph::builder("folder")
        .node(node("list", list))
        // So many files are open at once, and no more.
        .node(branch(SUMMARISE, summarise).concurrency(16).writes(["summaries", "words"]))
        .node(node("reduce", reduce))
        .edge(START, "list")
        .route("list", [SUMMARISE.name(), "reduce"], |folder: &Folder| {
            if folder.files.is_empty() {
                return Goto::from("reduce");
            }
            folder.files.iter().cloned().map(|file| SUMMARISE.with(file)).collect()
        })
        .chain(["summarise", "reduce", END])
        .build()
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().ok_or("which folder? such as: cargo run --example graph_map_reduce -- docs")?;
    let sentences = match arguments.next() {
        Some(number) => {
            number.to_string_lossy().parse().map_err(|_| "how many sentences of each file? such as: docs 3")?
        }
        None => 2,
    };
    let folder = Folder { path: path.into(), sentences, ..Folder::default() };
    let report =
        graph()?.run(folder, Caller::new("acme", "ann")?).await?.into_report().map_err(|_| "nothing waits in it")?;
    print!("{}", report.state.report);
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> CallError {
    CallError::tell(format!("{} cannot be read: {error}", path.display()))
}

/// The sentences of a Markdown text, without its code, tables and headings.
fn sentences(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut prose = String::new();
    for line in text.lines().map(str::trim) {
        in_code ^= line.starts_with("```");
        if in_code || line.starts_with(['#', '|', '<']) || line.starts_with("```") {
            prose.push('\n');
        } else {
            prose += line.trim_start_matches(['-', '*', '>', ' ']);
            prose.push(if line.is_empty() { '\n' } else { ' ' });
        }
    }
    let ends = |text: &str| text.split_inclusive(". ").map(|sentence| sentence.trim().to_owned()).collect::<Vec<_>>();
    prose.lines().flat_map(ends).filter(|sentence| words(sentence).count() > 3).collect()
}

/// The words of a sentence that say something.
fn words(sentence: &str) -> impl Iterator<Item = String> + '_ {
    let words = sentence.split(|character: char| !character.is_alphanumeric()).filter(|word| word.chars().count() > 3);
    words.map(str::to_lowercase)
}

/// The sentences whose words come up most in all of them, in their order.
fn best(sentences: &[String], count: usize) -> Vec<&str> {
    let mut often: HashMap<String, usize> = HashMap::new();
    sentences.iter().flat_map(|sentence| words(sentence)).for_each(|word| *often.entry(word).or_default() += 1);
    let weight = |sentence: &str| {
        let weights: Vec<usize> = words(sentence).map(|word| often.get(&word).copied().unwrap_or_default()).collect();
        weights.iter().sum::<usize>() * 1_000 / weights.len().max(1)
    };
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(sentences.get(*at).map_or(0, |sentence| weight(sentence))));
    order.truncate(count);
    order.sort_unstable();
    order.into_iter().filter_map(|at| sentences.get(at).map(String::as_str)).collect()
}
