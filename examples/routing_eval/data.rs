//! The data sets' own formats.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::path::Path;

use serde_json::Value;

/// A part of a data set.
#[derive(Default)]
pub(crate) struct Part {
    /// Requests with the agent that should get them; `None` is out of scope.
    pub(crate) requests: Vec<(String, Option<String>)>,
    /// Descriptions, by agent.
    pub(crate) descriptions: BTreeMap<String, String>,
    /// Domains, by agent.
    pub(crate) domains: HashMap<String, String>,
}

/// What is known about an agent.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) domain: Vec<String>,
    pub(crate) examples: Vec<String>,
}

impl Part {
    /// Reads `FILE` or `FILE:SPLIT`.
    pub(crate) fn read(given: &str, seed: u64) -> Result<Self, Box<dyn Error>> {
        let (path, split) = match given.rsplit_once(':') {
            Some((path, split)) if !Path::new(given).exists() => (path, Some(split)),
            _ => (given, None),
        };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        if path.ends_with(".csv") {
            return Self::read_csv(&text, split, seed);
        }
        match serde_json::from_str(&text)? {
            Value::Object(fields) if fields.values().all(Value::is_string) => {
                let descriptions =
                    fields.into_iter().map(|(name, text)| (name, text.as_str().unwrap_or("").to_owned()));
                Ok(Self { descriptions: descriptions.collect(), ..Self::default() })
            }
            fields => Self::read_parts(&fields, split.ok_or("which part of the file?")?, path),
        }
    }

    /// CLINC150: parts of pairs, and domains in a file beside it.
    fn read_parts(parts: &Value, split: &str, path: &str) -> Result<Self, Box<dyn Error>> {
        let pairs =
            |part: &str| -> Option<Vec<(String, String)>> { serde_json::from_value(parts.get(part)?.clone()).ok() };
        let within = pairs(split).ok_or_else(|| format!("{path} has no part `{split}`"))?;
        let outside = pairs(&format!("oos_{split}")).unwrap_or_default();
        let within = within.into_iter().map(|(request, agent)| (request, Some(agent).filter(|agent| agent != "oos")));
        let outside = outside.into_iter().map(|(request, _)| (request, None));
        let domains = Path::new(path).with_file_name("domains.json");
        let domains: BTreeMap<String, Vec<String>> = match std::fs::read_to_string(domains) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => BTreeMap::new(),
        };
        let of_agents = domains
            .into_iter()
            .flat_map(|(domain, agents)| agents.into_iter().map(move |agent| (agent, domain.clone())));
        Ok(Self { requests: within.chain(outside).collect(), domains: of_agents.collect(), ..Self::default() })
    }

    /// BANKING77 and MetaTool: requests and agents in two columns.
    fn read_csv(text: &str, split: Option<&str>, seed: u64) -> Result<Self, Box<dyn Error>> {
        let rows = csv::Reader::from_reader(text.as_bytes())
            .into_deserialize()
            .collect::<Result<Vec<(String, String)>, _>>()?;
        let mut requests: Vec<_> = rows.into_iter().map(|(request, agent)| (request, Some(agent))).collect();
        if let Some(split) = split {
            let percent: usize = split.parse().map_err(|_| format!("`{split}` is no per cent"))?;
            shuffle(&mut requests, seed);
            let count = requests.len() * percent / 100;
            // The smaller part is the end of the same order, so that both have nothing in common.
            requests =
                if percent >= 50 { requests[..count].to_vec() } else { requests.split_off(requests.len() - count) };
        }
        Ok(Self { requests, ..Self::default() })
    }

    /// Keeps so many examples of each agent.
    pub(crate) fn keep_shots(&mut self, shots: usize, seed: u64) {
        shuffle(&mut self.requests, seed);
        let mut counts: HashMap<String, usize> = HashMap::new();
        self.requests.retain(|(_, agent)| {
            let Some(agent) = agent else { return true };
            let count = counts.entry(agent.clone()).or_default();
            *count += 1;
            *count <= shots
        });
    }

    /// The same without requests that stand in `other`.
    pub(crate) fn without(mut self, other: &Self) -> Self {
        let known: BTreeSet<&str> = other.requests.iter().map(|(request, _)| &**request).collect();
        self.requests.retain(|(request, _)| !known.contains(&**request));
        self
    }

    /// The agents, by name.
    pub(crate) fn agents(&self) -> Vec<Agent> {
        let mut examples: BTreeMap<&str, Vec<String>> =
            self.descriptions.keys().map(|name| (&**name, Vec::new())).collect();
        for (request, agent) in &self.requests {
            if let Some(agent) = agent {
                examples.entry(agent).or_default().push(request.clone());
            }
        }
        let agents = examples.into_iter().map(|(name, examples)| Agent {
            name: name.to_owned(),
            description: self.descriptions.get(name).cloned().unwrap_or_default(),
            domain: self.domains.get(name).cloned().into_iter().collect(),
            examples,
        });
        agents.collect()
    }
}

/// An order that a seed decides (xorshift).
fn shuffle<T>(list: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..list.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        list.swap(last, (state % (last as u64 + 1)) as usize);
    }
}
