"""semantic-router's side: its IndexedRouter with its local index and its defaults, over vectors that are there already.

    semantic_router_side.py FOLDER ROUNDS

FOLDER has `data.json` (`routes`: texts by name; `queries`: pairs of a text and its route) and `vectors.bin` (384 floats of each text,
those of the routes first, in order). Prints JSON: the least CPU time of all rounds, in microseconds a query, and how many of the
queries were routed right.
"""

import asyncio
import json
import os
import sys
import time

# One thread, as on our side.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from semantic_router import Route
from semantic_router.encoders import DenseEncoder
from semantic_router.routers import IndexedRouter

DIMENSIONS = 384
KNOWN = {}


class Precomputed(DenseEncoder):
    name: str = "precomputed"

    def __call__(self, docs):
        return [KNOWN[doc] for doc in docs]

    async def acall(self, docs):
        return [KNOWN[doc] for doc in docs]


async def measure(router, queries, rounds):
    least, right = float("inf"), 0
    for _ in range(rounds):
        began = time.process_time()
        chosen = [await router.acall(text) for text, _ in queries]
        least = min(least, time.process_time() - began)
        right = sum(choice.name == route for choice, (_, route) in zip(chosen, queries))
    return {"microseconds": least * 1e6 / len(queries), "right": right}


def main():
    folder, rounds = sys.argv[1], int(sys.argv[2])
    with open(os.path.join(folder, "data.json"), encoding="utf-8") as file:
        data = json.load(file)
    vectors = np.fromfile(os.path.join(folder, "vectors.bin"), dtype="<f4").reshape(-1, DIMENSIONS)
    texts = [text for _, texts in data["routes"] for text in texts] + [text for text, _ in data["queries"]]
    KNOWN.update(zip(texts, vectors.astype(float).tolist()))
    routes = [Route(name=name, utterances=texts) for name, texts in data["routes"]]
    router = IndexedRouter(encoder=Precomputed(), routes=routes)
    print(json.dumps(asyncio.run(measure(router, data["queries"], rounds))))


main()
