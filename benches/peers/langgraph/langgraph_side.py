"""LangGraph's side: its own benchmark set, without a checkpointer, streamed as its benchmarks do.

    langgraph_side.py SCENARIO ROUNDS CAME_TO

Prints the least CPU time of all rounds in milliseconds, unless a first round, which is not timed, comes to something else than our
side: a JSON list of how many nodes ran, and what the state came to. Graphs and inputs are made before the clock starts.
"""

import asyncio
import json
import operator
import random
import sys
import time
import warnings
from typing import Annotated, Optional, TypedDict

warnings.filterwarnings("ignore")

import uvloop
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph.types import Send

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def fanout_to_subgraph():
    class Jokes(TypedDict):
        subjects: list[str]
        jokes: Annotated[list[str], operator.add]

    class Subject(TypedDict):
        subject: str

    class Told(TypedDict):
        jokes: list[str]

    class Joke(Subject, Told):
        pass

    async def edit(state: Subject):
        return {"subject": state["subject"] + " - hohoho"}

    async def generate(state: Subject):
        return {"jokes": ["Joke about " + state["subject"]]}

    async def bump(state: Told):
        return {"jokes": [state["jokes"][0] + " a"]}

    def again(state: Told):
        return END if state["jokes"][0].endswith(" a" * 10) else "bump"

    below = StateGraph(Joke, input_schema=Subject, output_schema=Told)
    below.add_node("edit", edit)
    below.add_node("generate", generate)
    below.add_node("bump", bump)
    below.add_edge(START, "edit")
    below.add_edge("edit", "generate")
    below.add_edge("generate", "bump")
    below.add_conditional_edges("bump", again)

    graph = StateGraph(Jokes)
    graph.add_node("joke", below.compile())
    graph.add_conditional_edges(START, lambda state: [Send("joke", {"subject": s}) for s in state["subjects"]], ["joke"])
    graph.add_edge("joke", END)
    # As long as the texts that their nodes make of lists of 1,000 letters; here they are made before the clock starts.
    subjects = ["".join(random.choices(LETTERS, k=5_000)) for _ in range(100)]
    made = {"subjects": subjects}
    return graph.compile(), lambda: made, lambda state: [len(state["jokes"]), sum(map(len, state["jokes"]))]


class FakeModel(FakeMessagesListChatModel):
    def bind_tools(self, tools, **_):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **_):
        answer = self.responses[self.i].model_copy()
        self.i = (self.i + 1) % len(self.responses)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def react_agent():
    tool = StructuredTool.from_function(lambda query: f"result for query: {query}" * 10, name="look_up", description="Looks up")
    call = lambda n: {"id": f"call-{n}", "name": "look_up", "args": {"query": f"{n:036}" * 100}}
    answers = [AIMessage(content="", tool_calls=[call(n)], id=f"m-{n}") for n in range(100)]
    model = FakeModel(responses=[*answers, AIMessage(content="answer" * 100, id="last")])
    # The question is left out, which our side keeps in another form.
    size = lambda state: [len(state["messages"]), sum(len(message.content) for message in state["messages"][1:])]
    return create_react_agent(model, [tool]), lambda: {"messages": [HumanMessage("hi?")]}, size


def sequential():
    graph = StateGraph(MessagesState)

    async def nothing(state: MessagesState):
        return None

    before = START
    for number in range(1_000):
        graph.add_node(f"node_{number}", nothing)
        graph.add_edge(before, f"node_{number}")
        before = f"node_{number}"
    graph.add_edge(before, END)
    return graph.compile(), lambda: {"messages": []}, lambda state: [len(state["messages"])]


def wide_dict():
    n = 300
    newer = lambda old, new: new if new is not None else old

    class Desk(TypedDict):
        messages: Annotated[list, operator.add]
        trigger_events: Annotated[list, operator.add]
        primary_issue_medium: Annotated[str, lambda old, new: new or old]
        autoresponse: Annotated[Optional[dict], lambda _, new: new]
        issue: Annotated[Optional[dict], lambda old, new: new or old]
        relevant_rules: Optional[list[dict]]
        memory_docs: Optional[list[dict]]
        categorizations: Annotated[list[dict], operator.add]
        responses: Annotated[list[dict], operator.add]
        user_info: Annotated[Optional[dict], newer]
        crm_info: Annotated[Optional[dict], newer]
        email_thread_id: Annotated[Optional[str], newer]
        slack_participants: Annotated[dict, operator.or_]
        bot_id: Optional[str]
        notified_assignees: Annotated[dict, operator.or_]

    # Their benchmark chooses each letter by itself, which takes longer.
    def text():
        return "".join(random.choices(LETTERS, k=n))

    def one(state):
        return {"trigger_events": state["messages"], "primary_issue_medium": text()}

    def two(state):
        last = state["trigger_events"][-1]
        return {"autoresponse": last, "issue": last}

    def three(state):
        return {"relevant_rules": [state["autoresponse"]]}

    def four(state):
        events = state["trigger_events"]
        return {"categorizations": events, "responses": events, "memory_docs": events}

    def five(state):
        last = state["categorizations"][-1]
        known = {"user_info": last, "crm_info": last, "slack_participants": last, "notified_assignees": last}
        return {**known, "email_thread_id": text(), "bot_id": text()}

    def six(state):
        return {"messages": state["responses"]}

    graph = StateGraph(Desk)
    for name, node in [("one", one), ("two", two), ("three", three), ("four", four), ("five", five), ("six", six)]:
        graph.add_node(name, node)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", "three")
    graph.add_edge("two", "four")
    graph.add_edge(["three", "four"], "five")
    graph.add_edge("five", "six")
    graph.add_conditional_edges("six", lambda state: END if len(state["messages"]) > n else "one", ["one", END])
    inner = lambda: ["hi?" * 10, True, 1, 6327816386138, None] * 5
    # 25 lists in all.
    message = {str(i) * 10: {str(j) * 10: inner() for j in range(5)} for i in range(5)}
    lists = ["messages", "trigger_events", "categorizations", "responses", "memory_docs"]
    texts = ["primary_issue_medium", "email_thread_id", "bot_id"]
    sized = [*lists, *texts, "slack_participants", "notified_assignees"]
    return graph.compile(), lambda: {"messages": [message]}, lambda state: [len(state[name]) for name in sized]


CONFIG = {"recursion_limit": 1_000_000}


async def came_to(graph, made, size):
    nodes, state = 0, None
    async for path, mode, what in graph.astream(made, CONFIG, stream_mode=["tasks", "values"], subgraphs=True):
        nodes += mode == "tasks" and "result" in what
        state = what if mode == "values" and not path else state
    return [nodes, *size(state)]


async def least(graph, make_input, size, rounds, expected):
    found = await came_to(graph, make_input(), size)
    if found != expected:
        sys.exit(f"LangGraph came to {found}, and not to {expected}")
    best = float("inf")
    for _ in range(rounds):
        made = make_input()
        began = time.process_time()
        async for _ in graph.astream(made, CONFIG):
            pass
        best = min(best, time.process_time() - began)
    return best * 1_000


def main():
    scenario, rounds, expected = sys.argv[1:]
    made = {made.__name__: made for made in [fanout_to_subgraph, react_agent, sequential, wide_dict]}
    graph, make_input, size = made[scenario]()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(least(graph, make_input, size, int(rounds), json.loads(expected))))


main()
