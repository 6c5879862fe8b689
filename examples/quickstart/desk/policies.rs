//! The Sub-Agent `policy`: answers from Markdown files and cites file and heading.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use adjutant::CallError;
use adjutant::agent_router::LexicalIndex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::orders::Answer;

/// Words of customers, and the shop's words for them.
pub(crate) const SYNONYMS: [(&str, &str); 9] = [
    ("send back", "return"),
    ("pay back", "refund"),
    ("reimburse", "refund"),
    ("how long", "days months years"),
    ("guarantee", "warranty"),
    ("parcel", "order"),
    ("package", "order"),
    ("euro", "EUR"),
    ("postage", "shipping costs"),
];

/// How near the second best section has to come to be answered with as well.
const NEAR: f32 = 0.85;

/// The sections of all files of a folder.
pub(crate) struct Policies {
    sections: Vec<Section>,
    index: LexicalIndex,
}

struct Section {
    file: String,
    /// The heading of the whole file.
    title: String,
    heading: String,
    text: String,
}

/// What is asked.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Question {
    /// The question, in the customer's words.
    question: String,
}

impl Policies {
    /// Reads every Markdown file of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Arc<Self>, Box<dyn Error>> {
        let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        paths.sort();
        let mut sections = Vec::new();
        for path in paths {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            sections.extend(sections_of(&file, &text));
        }
        let mut index = LexicalIndex::new();
        for (words, meaning) in SYNONYMS {
            index.add_synonym(words, meaning);
        }
        for section in &sections {
            index.add([(2.0, &*section.heading), (1.0, &*section.title), (1.0, &*section.text)]);
        }
        Ok(Arc::new(Self { sections, index }))
    }

    /// What the policies are about, for the model that has to choose.
    pub(crate) fn description(&self) -> String {
        let mut titles: Vec<&str> = self.sections.iter().map(|section| &*section.title).collect();
        titles.dedup();
        format!("Answers questions from the shop's policies: {}", titles.join(", "))
    }

    /// What can be asked about: all headings, and what stands below them.
    pub(crate) fn examples(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().flat_map(|section| [&*section.heading, &*section.text])
    }

    /// Answers with the section that fits best.
    pub(crate) async fn answer(self: Arc<Self>, question: Question) -> Result<Answer, CallError> {
        let hits = self.index.rank(&question.question);
        let best = hits
            .first()
            .map(|(_, score)| *score)
            .ok_or_else(|| CallError::tell("the policies say nothing about that"))?;
        let near = hits.iter().take(2).filter(|(_, score)| *score >= NEAR * best);
        let sections: Vec<&Section> = near.filter_map(|(number, _)| self.sections.get(*number)).collect();
        let texts: Vec<&str> = sections.iter().map(|section| &*section.text).collect();
        let sources: Vec<String> =
            sections.iter().map(|section| format!("{}, \"{}\"", section.file, section.heading)).collect();
        Ok(Answer { answer: texts.join(" "), source: sources.join("; ") })
    }
}

fn sections_of(file: &str, markdown: &str) -> Vec<Section> {
    let title = markdown.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(file).trim();
    let parts = markdown.split("\n## ").skip(1);
    let section = |part: &str| {
        let (heading, text) = part.split_once('\n').unwrap_or((part, ""));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Section { file: file.to_owned(), title: title.to_owned(), heading: heading.trim().to_owned(), text }
    };
    parts.map(section).collect()
}
