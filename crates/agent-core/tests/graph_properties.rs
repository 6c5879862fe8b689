//! Whatever a graph looks like, whichever of its nodes is done first, and whenever it is suspended, stopped or failed and goes on
//! elsewhere: one end, and no task that completes twice.
//!
//! 20 graphs by default; `ADJUTANT_CASES` sets another number.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use agent_core::graph::{
    Answered, Branch, END, Goto, Graph, Next, Node, START, agent, branch, branch_graph, call, node, sub_graph,
};
use agent_core::{
    AgentError, AnswerValue, Approval, CallError, CallFailure, Effect, Event, EventKind, FunctionSpec, Journal,
    MemoryJournal, Observer, PendingKind, Resume, RunContext, RunOptions, RunState, Schema, Tool, ToolOutput,
    async_trait, graph_state,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::{caller, elsewhere, paused, somebody};
use tokio_util::sync::CancellationToken;

graph_state! {
    #[derive(Debug, Default, PartialEq)]
    struct Seen updated by SeenUpdate {
        /// Stands for everything that was written, in its order.
        log: u64 => by(chained),
        sum: u64 => by(mixed),
        runs: BTreeMap<String, u64> => by(counted),
        last: BTreeMap<String, u64> => merge,
    }
}

/// Depends on the order of what is mixed in.
fn mixed(sum: &mut u64, more: u64) {
    *sum = sum.wrapping_mul(31).wrapping_add(more) % 1_000_003;
}

/// FNV-1a over numbers.
fn chained(log: &mut u64, line: u64) {
    *log = (*log ^ line).wrapping_mul(0x0100_0000_01B3);
}

fn counted(runs: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    more.into_iter().for_each(|(name, count)| *runs.entry(name).or_default() += count);
}

/// What a node does.
#[derive(Debug, Clone)]
enum Kind {
    Plain,
    /// Waits, once or twice.
    Waits {
        again: bool,
    },
    /// Goes where it likes rather than along its edges, every other time.
    Goes(usize),
    /// Calls a tool that must not be called twice, and for which a person may have to agree.
    Calls {
        needs_approval: bool,
    },
    /// Gives tasks to a branch of its own.
    Fans(Below),
    /// Runs a graph with a node for each of these, which waits or does not.
    Runs {
        waits: Vec<bool>,
        as_agent: bool,
    },
}

/// What a branch does with each task.
#[derive(Debug, Clone)]
enum Below {
    Plain,
    Waits,
    Graph(Vec<bool>),
}

#[derive(Debug, Clone)]
struct Place {
    kind: Kind,
    /// How many nodes further its edges lead.
    edges: Vec<usize>,
    /// How many nodes back it leads, and how often.
    cycle: Option<(usize, u64)>,
    /// How many nodes further the join of it and the next one leads.
    join: Option<usize>,
    is_deferred: bool,
}

fn place() -> impl Strategy<Value = Place> {
    let waits = || proptest::collection::vec(any::<bool>(), 1..4);
    let below = prop_oneof![Just(Below::Plain), Just(Below::Waits), waits().prop_map(Below::Graph)];
    let kind = prop_oneof![
        12 => Just(Kind::Plain),
        2 => any::<bool>().prop_map(|again| Kind::Waits { again }),
        1 => (0..4_usize).prop_map(Kind::Goes),
        1 => any::<bool>().prop_map(|needs_approval| Kind::Calls { needs_approval }),
        1 => below.prop_map(Kind::Fans),
        1 => (waits(), any::<bool>()).prop_map(|(waits, as_agent)| Kind::Runs { waits, as_agent }),
    ];
    (
        kind,
        prop_oneof![3 => proptest::collection::vec(0..2_usize, 1), 1 => proptest::collection::vec(0..5_usize, 2)],
        proptest::option::weighted(0.06, (1..6_usize, 1..3_u64)),
        proptest::option::weighted(0.1, 0..3_usize),
        prop::bool::weighted(0.04),
    )
        .prop_map(|(kind, edges, cycle, join, is_deferred)| Place { kind, edges, cycle, join, is_deferred })
}

const MOST: usize = 100;

/// Names live as long as branches, which are constants in a program.
static NAMES: LazyLock<Vec<[&'static str; 2]>> = LazyLock::new(|| {
    let name =
        |letter: char, number: usize| -> &'static str { Box::leak(format!("{letter}{number}").into_boxed_str()) };
    (0..MOST).map(|number| [name('n', number), name('b', number)]).collect()
});

/// What is random about one way to run a graph: a sequence that many can take from.
#[derive(Debug, Clone)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A number below `end`.
    fn below(&self, end: u64) -> u64 {
        // Steele, Lea and Flood's SplitMix64.
        let mut mixed = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Takes some time, and fails now and then.
    async fn work(&self) -> Result<(), AgentError> {
        for _ in 0..self.below(5) {
            tokio::task::yield_now().await;
        }
        if self.below(60) == 0 { Err(AgentError::tell("not now")) } else { Ok(()) }
    }
}

/// What a node writes of what it sees.
fn seen(name: &str, state: &Seen) -> SeenUpdate {
    SeenUpdate::default()
        .log(name.bytes().fold(state.sum, |log, byte| log.wrapping_mul(257).wrapping_add(byte.into())))
        .sum(name.bytes().map(u64::from).sum())
        .runs(BTreeMap::from([(name.to_owned(), 1)]))
        .last(BTreeMap::from([("last".to_owned(), state.sum)]))
}

const AGAIN: u64 = 7;

fn question(name: &str, again: bool) -> PendingKind {
    Answered::<u64>::question(if again { format!("{name} again") } else { name.to_owned() })
}

/// The answer to what waits, which is the same whenever it is given.
fn answer(kind: &PendingKind) -> AnswerValue {
    match kind {
        PendingKind::Question { question, .. } if question.ends_with("again") => AnswerValue::Value(AGAIN.into()),
        PendingKind::Question { question, .. } => {
            AnswerValue::Value((question.bytes().map(u64::from).sum::<u64>() + AGAIN).into())
        }
        PendingKind::Approval { .. } => AnswerValue::Approve,
        // Whoever looks finds that the tool has done what it should.
        PendingKind::UnknownOutcome { arguments, .. } => AnswerValue::Value(outcome(arguments).into()),
        other => panic!("nothing waits so: {other:?}"),
    }
}

/// What the tool does with its arguments.
fn outcome(arguments: &Value) -> u64 {
    arguments["sum"].as_u64().unwrap() * 7 % 1_009
}

/// A tool that notes under which keys it was called.
struct Once {
    spec: FunctionSpec,
    dice: Dice,
    keys: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Tool for Once {
    fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    async fn call(&self, input: &Value, cx: &RunContext) -> Result<ToolOutput, CallError> {
        self.keys.lock().unwrap().push(cx.idempotency_key());
        for _ in 0..self.dice.below(5) {
            tokio::task::yield_now().await;
        }
        Ok(ToolOutput::Done(outcome(input).into()))
    }
}

/// The same node, with a function that takes its answers.
fn answered(node: Node<Seen>, name: &'static str, dice: &Dice) -> Node<Seen> {
    let dice = dice.clone();
    node.answered(move |answer: Answered<u64>, state: Arc<Seen>| {
        let dice = dice.clone();
        async move {
            dice.work().await?;
            let next = Next::update(seen(name, &state).sum(answer.value));
            Ok::<_, AgentError>(if answer.value == AGAIN { next.and_wait(question(name, false)) } else { next })
        }
    })
}

fn plain(name: &'static str, dice: &Dice) -> Node<Seen> {
    going(name, dice, |next, _| next)
}

fn waiting(name: &'static str, again: bool, dice: &Dice) -> Node<Seen> {
    answered(going(name, dice, move |next, _| next.and_wait(question(name, again))), name, dice)
}

/// A node that notes what it sees, and goes on as `on` says.
fn going(
    name: &'static str,
    dice: &Dice,
    on: impl Fn(Next<Seen>, &Seen) -> Next<Seen> + Copy + Send + Sync + 'static,
) -> Node<Seen> {
    let dice = dice.clone();
    node(name, move |state: Arc<Seen>| {
        let dice = dice.clone();
        async move {
            dice.work().await?;
            Ok::<_, AgentError>(on(Next::update(seen(name, &state)), &state))
        }
    })
}

/// Nodes one after the other, of which some wait.
fn chain(waits: &[bool], dice: &Dice) -> Graph<Seen> {
    let names = || waits.iter().zip(NAMES.iter()).map(|(_, [name, _])| *name);
    let node =
        |(waits, name): (&bool, &'static str)| if *waits { waiting(name, false, dice) } else { plain(name, dice) };
    let graph =
        waits.iter().zip(names()).map(node).fold(Graph::builder("below"), agent_core::graph::GraphBuilder::node);
    graph.chain([START].into_iter().chain(names()).chain([END])).build().unwrap()
}

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Begin {
    sum: u64,
}

fn begin(sum: u64) -> Seen {
    Seen { sum, ..Seen::default() }
}

/// What a node writes of a graph below.
fn back(name: &'static str) -> impl Fn(Seen) -> SeenUpdate + Send + Sync + 'static {
    move |state| {
        SeenUpdate::default()
            .log(state.log)
            .sum(state.sum)
            .runs(BTreeMap::from([(name.to_owned(), 1)]))
            .last(state.last)
    }
}

fn built(places: &[Place], in_flight: usize, dice: &Dice, kept: &Kept) -> Graph<Seen> {
    let mut graph =
        Graph::builder("random").in_flight(in_flight).journal(kept.journal.clone()).edge(START, NAMES[0][0]);
    let further = |from: usize, by: usize| match NAMES.get(from + 1 + by) {
        Some([name, _]) if from + 1 + by < places.len() => *name,
        _ => END,
    };
    let mut is_led_to = vec![false; places.len()];
    for (at, (place, [name, branch_name])) in places.iter().zip(NAMES.iter()).enumerate() {
        let made = match &place.kind {
            Kind::Plain | Kind::Fans(_) => plain(name, dice),
            Kind::Waits { again } => waiting(name, *again, dice),
            Kind::Goes(by) => {
                let to = further(at, *by);
                let go = move |next: Next<Seen>, state: &Seen| {
                    if state.sum.is_multiple_of(2) { next.and_goto(to) } else { next }
                };
                going(name, dice, go).may_go_to([to])
            }
            Kind::Calls { needs_approval } => {
                let spec = FunctionSpec::new("once", "", Schema::object()).with_effect(Effect::AtMostOnce);
                let spec = if *needs_approval { spec.with_approval(Approval::Needed) } else { spec };
                let tool = Once { spec, dice: dice.clone(), keys: kept.keys.clone() };
                let back = |result: Result<u64, CallFailure>| {
                    let runs = BTreeMap::from([((*name).to_owned(), 1)]);
                    Ok::<_, AgentError>(SeenUpdate::default().log(result.clone()?).sum(result?).runs(runs))
                };
                call(*name, tool, |state: &Seen| json!({ "sum": state.sum }), back)
            }
            Kind::Runs { waits, as_agent: false } => {
                sub_graph(*name, chain(waits, dice), |state: &Seen| begin(state.sum), back(name))
            }
            Kind::Runs { waits, as_agent: true } => {
                let below = chain(waits, dice).into_sub_agent("", |input: Begin| begin(input.sum), |state: Seen| state);
                agent(*name, below, |state: &Seen| Begin { sum: state.sum }, back(name))
            }
        };
        graph = graph.node(if place.is_deferred { made.deferred() } else { made });
        if let Kind::Fans(below) = &place.kind {
            let each = Branch::<u64>::new(branch_name);
            let dice_of_each = dice.clone();
            let work = move |input: u64, state: Arc<Seen>, _| {
                let dice = dice_of_each.clone();
                async move {
                    dice.work().await?;
                    Ok::<_, AgentError>(Next::update(seen(branch_name, &state).sum(input)))
                }
            };
            let dice_of_each = dice.clone();
            let wait = move |input: u64, state: Arc<Seen>, _| {
                let dice = dice_of_each.clone();
                async move {
                    dice.work().await?;
                    let next = Next::update(seen(branch_name, &state).sum(input));
                    Ok::<_, AgentError>(next.and_wait(question(branch_name, false)))
                }
            };
            graph = graph
                .node(match below {
                    Below::Plain => branch(each, work).concurrency(2),
                    Below::Waits => answered(branch(each, wait), branch_name, dice),
                    Below::Graph(waits) => branch_graph(each, chain(waits, dice), begin, back(branch_name)),
                })
                .route(*name, [*branch_name], move |state: &Seen| {
                    (0..state.sum % 4).map(|task| each.with(task)).collect::<Goto>()
                })
                .edge(*branch_name, further(at, 0));
        }
        for by in &place.edges {
            graph = graph.edge(*name, further(at, *by));
            is_led_to.iter_mut().skip(at + 1 + by).take(1).for_each(|is_led_to| *is_led_to = true);
        }
        if at > 0 && !is_led_to[at] {
            graph = graph.edge(NAMES[at - 1][0], *name);
        }
        if let Some((by, times)) = place.cycle {
            let to = NAMES[at.saturating_sub(by)][0];
            graph = graph.route(*name, [to], move |state: &Seen| {
                if state.runs.get(*name).copied().unwrap_or_default() <= times {
                    Goto::from(to)
                } else {
                    Goto::default()
                }
            });
        }
        if let Some(by) = place.join.filter(|by| at + 2 + by < places.len()) {
            graph = graph.join([*name, NAMES[at + 1][0]], further(at + 1, by));
        }
    }
    graph.build().unwrap()
}

/// What outlives the lives of a run beside its state.
struct Kept {
    journal: Arc<dyn Journal>,
    /// Under which keys the tool was called.
    keys: Arc<Mutex<Vec<String>>>,
}

/// What all lives of one run were seen to do: how often each task completed, by its place in the run and its node.
type Completed = Arc<Mutex<HashMap<(String, String), u32>>>;

/// Watches one life, which it ends after some events.
struct Watch {
    completed: Completed,
    fuse: AtomicU32,
    end: CancellationToken,
}

impl Observer for Watch {
    fn observe(&self, event: &Event) {
        if self.fuse.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end.cancel();
        }
        if let EventKind::NodeFinished { node, .. } = &event.kind {
            let task = (event.path().to_string(), node.to_string());
            *self.completed.lock().unwrap().entry(task).or_default() += 1;
        }
    }
}

/// Runs a graph to its end, in as many lives as it takes, each of which may fail, drain, be stopped, or get some of the answers.
async fn lived(places: &[Place], seed: u64) -> Seen {
    let dice = Dice::new(seed);
    let completed = Completed::default();
    let life = || {
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let end = if dice.below(2) == 0 { drain.clone() } else { stop.clone() };
        // A large graph is stopped as often as a small one.
        let fuse = AtomicU32::new(1 + u32::try_from(dice.below(50 * places.len() as u64)).unwrap());
        let watch = Watch { completed: completed.clone(), fuse, end };
        RunOptions::default().with_observer(watch).with_drain(drain).with_cancellation(stop)
    };
    let kept = Kept { journal: Arc::new(MemoryJournal::new()), keys: Arc::default() };
    let graph = || built(places, 1 + usize::try_from(dice.below(16)).unwrap(), &dice, &kept);
    let mut outcome = graph().run_with(Seen::default(), caller(), life()).await;
    for _ in 0..20_000 {
        let state: RunState = match outcome.map(agent_core::graph::GraphOutcome::into_report) {
            Ok(Ok(report)) => {
                let completed = completed.lock().unwrap();
                let twice: Vec<_> = completed.iter().filter(|(_, count)| **count > 1).collect();
                assert!(twice.is_empty(), "completed twice: {twice:?}");
                let mut keys = kept.keys.lock().unwrap().clone();
                keys.sort_unstable();
                assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "called twice: {keys:?}");
                return report.state;
            }
            Ok(Err(suspended)) => *suspended,
            Err(failed) => {
                let code = failed.code().to_string();
                assert!(["call.failed", "run.cancelled"].contains(&&*code), "{code}: {failed}");
                failed.state.unwrap()
            }
        };
        let state = elsewhere(&state);
        let pending = state.pending().to_vec();
        assert!(!pending.is_empty() || state.is_runnable(), "there is a way on");
        let mut resume = Resume::new(state, somebody("acme", "sam"));
        // At least one answer where nothing else can be done.
        let first = usize::try_from(dice.below(pending.len().max(1) as u64)).unwrap();
        for (at, one) in pending.iter().enumerate() {
            if at == first || dice.below(3) > 0 {
                resume = resume.with_answer(&one.id, answer(&one.kind));
            }
        }
        outcome = graph().resume(resume.with_options(life())).await;
    }
    panic!("it does not end");
}

fn cases() -> u32 {
    std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_way_to_run_a_graph_ends_in_the_same_state(
        places in prop_oneof![
            14 => proptest::collection::vec(place(), 2..20),
            1 => proptest::collection::vec(place(), MOST),
        ],
        seeds in proptest::collection::vec(any::<u64>(), 3),
    ) {
        let [first, others @ ..] = &*seeds else { unreachable!() };
        let expected = paused(lived(&places, *first));
        for seed in others {
            prop_assert_eq!(&expected, &paused(lived(&places, *seed)));
        }
    }
}
