//! Every fault of the testkit's upstream, met directly, in streams and whole answers.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;

use model_litellm::Transport;
use testkit::{FaultUpstream, faults};

use support::{TRANSPORTS, ask, brief, by, gateway, hello};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_what_it_is() {
    let upstream = FaultUpstream::start().await;
    let gateway = gateway(&upstream.base_url());
    let mut asked = Vec::new();
    for fault in faults() {
        for transport in TRANSPORTS {
            let model = by(gateway.model(fault.name), transport);
            let asking = tokio::spawn(async move { brief(&ask(&model, hello()).await) });
            asked.push((fault.name, transport, asking));
        }
    }
    let mut seen: BTreeMap<&str, [String; 2]> = BTreeMap::new();
    for (name, transport, asking) in asked {
        seen.entry(name).or_default()[usize::from(transport == Transport::Whole)] = asking.await.unwrap();
    }
    let table = seen.iter().fold(String::new(), |mut table, (name, [stream, whole])| {
        writeln!(
            table,
            "{name:26} {}",
            if stream == whole { stream.clone() } else { format!("{stream}\n{:26} {whole}", "") }
        )
        .unwrap();
        table
    });
    insta::assert_snapshot!(table);
}
