"""Serves reward functions written in Python to qgrpo: a long-lived process, JSON lines both ways.

A function has TRL's signature:

    def reward(prompts, completions, completion_ids, trainer_state, log_extra, log_metric,
               **columns) -> list[float | None]

It gets what it names of these, or everything if it takes **kwargs. One call has all completions of
a step. Requests and answers are described in docs/rewards.md. Standard output belongs to the
protocol, so what the user's code prints goes to standard error.
"""

import asyncio
import functools
import importlib.util
import inspect
import json
import math
import os
import queue
import sys
import threading
import time
import traceback
from types import SimpleNamespace

RESERVED = ("prompt", "completion", "prompts", "completions", "completion_ids", "trainer_state",
            "log_extra", "log_metric")


class RewardError(Exception):
    """A result that is no list of rewards; the message is all that the user needs."""


def take_protocol_streams():
    """The two ends of the protocol, out of the user's reach: 0 reads nothing, 1 is the error stream."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="replace", newline="\n")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdin = open(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
    return requests, answers


def read_requests(stream, requests):
    """Runs beside the user's code, so that the process ends with qgrpo even if that code never does."""
    for line in stream:
        requests.put(line)
    requests.put(None)
    time.sleep(1.5)
    os._exit(0)


def load_function(path, attribute, modules):
    """The function of a file; a file is run once, whatever number of functions is taken from it."""
    real = os.path.realpath(path)
    if real not in modules:
        if not os.path.isfile(real):
            raise RewardError(f"{path}: no such file")
        sys.path.insert(0, os.path.dirname(real))
        name = os.path.splitext(os.path.basename(real))[0]
        if name in sys.modules or not name.isidentifier():
            name = f"qgrpo_rewards_{len(modules)}"
        spec = importlib.util.spec_from_file_location(name, real)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        modules[real] = module
    found = modules[real]
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [n for n, v in vars(modules[real]).items()
                     if callable(v) and not n.startswith("_") and not inspect.isclass(v)]
            raise RewardError(f"{path}: has no '{attribute}'; its functions are: "
                              f"{', '.join(names) or 'none'}")
        found = getattr(found, part)
    if not callable(found):
        raise RewardError(f"{path}: '{attribute}' is a {type(found).__name__}, expected a function")
    return found


def arguments_for(function, everything):
    """What of `everything` the function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return everything
    missing = [p.name for p in parameters
               if p.name not in everything and p.default is p.empty
               and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if missing:
        raise RewardError(f"takes '{missing[0]}', which is not there; there are: "
                          f"{', '.join(everything)}")
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return everything
    return {p.name: everything[p.name] for p in parameters if p.name in everything}


def is_async(function):
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None))


def as_rewards(result, count):
    """The result as a list of floats and Nones."""
    if result is None or isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
        raise RewardError(f"returned {describe(result)}, expected a list of {count} numbers, one "
                          "for each completion")
    result = list(result)
    if len(result) != count:
        raise RewardError(f"returned {len(result)} rewards for {count} completions, expected one "
                          "for each")
    rewards = []
    for index, value in enumerate(result):
        if value is None:
            rewards.append(None)
            continue
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            raise RewardError(f"returned {describe(value)} for completion {index}, expected a "
                              "number, or None to skip it")
        number = float(value)
        if not math.isfinite(number):
            raise RewardError(f"returned {number} for completion {index}, expected a finite "
                              "number, or None to skip it")
        rewards.append(number)
    return rewards


def describe(value):
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:60] + '..'}"


class Host:
    def __init__(self):
        self.functions = []
        self.loop = None
        self.failing = 0  # index of the function at work

    def load(self, specs):
        modules = {}
        for index, spec in enumerate(specs):
            self.failing = index
            self.functions.append(load_function(spec["file"], spec["function"], modules))
        return {}

    def score(self, request):
        count = len(request["completions"])
        extra, metrics = {}, {}

        def log_extra(column, values):
            values = list(values)
            if len(values) != count:
                raise RewardError(f"log_extra({column!r}) got {len(values)} values for {count} "
                                  "completions, expected one for each")
            extra[str(column)] = [v if is_json(v) else str(v) for v in values]

        def log_metric(name, value):
            metrics.setdefault(str(name), []).append(float(value))

        everything = {k: v for k, v in request["columns"].items() if k not in RESERVED}
        everything.update(
            prompts=request["prompts"],
            completions=[[{"role": "assistant", "content": c}] for c in request["completions"]],
            completion_ids=request["completion_ids"],
            trainer_state=SimpleNamespace(**request["trainer_state"]),
            log_extra=log_extra,
            log_metric=log_metric,
        )
        results = [None] * len(self.functions)
        waiting = []
        for index, function in enumerate(self.functions):
            self.failing = index
            if is_async(function):
                waiting.append(index)
                continue
            result = function(**arguments_for(function, everything))
            if inspect.isawaitable(result):
                result = self.run(wait_for(result))
            results[index] = as_rewards(result, count)
        if waiting:
            for index, result in zip(waiting, self.run(self.gather(waiting, everything))):
                self.failing = index
                results[index] = as_rewards(result, count)
        return {
            "rewards": results,
            "extra": extra,
            "metrics": {k: finite(sum(v) / len(v)) for k, v in metrics.items()},
        }

    def run(self, coroutine):
        # One loop for the whole run: clients that a function keeps are bound to it.
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(coroutine)

    async def gather(self, indices, everything):
        async def one(index):
            function = self.functions[index]
            try:
                return await function(**arguments_for(function, everything))
            except BaseException:
                self.failing = index
                raise

        return await asyncio.gather(*(one(i) for i in indices))

    def answer(self, line):
        request = json.loads(line)
        try:
            answer = self.load(request["load"]) if "load" in request else self.score(request)
        except RewardError as error:
            answer = {"error": str(error), "reward": self.failing}
        except BaseException as error:  # also SystemExit: the user's code does not end the host
            answer = {"error": one_line(error), "reward": self.failing, "traceback": trace(error)}
        answer["id"] = request["id"]
        return answer


async def wait_for(awaitable):
    return await awaitable


def is_json(value):
    try:
        json.dumps(value, allow_nan=False)
        return True
    except (TypeError, ValueError):
        return False


def finite(value):
    return value if math.isfinite(value) else None


def one_line(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def trace(error):
    """The traceback from the user's code on, without this file and the machinery of imports."""
    machinery = (trace.__code__.co_filename, "<frozen importlib", os.path.dirname(asyncio.__file__))
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(machinery):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame)).rstrip()


def main():
    stream, answers = take_protocol_streams()
    requests = queue.Queue()
    threading.Thread(target=read_requests, args=(stream, requests), daemon=True).start()
    host = Host()
    while True:
        line = requests.get()
        if line is None:
            return
        answer = json.dumps(host.answer(line), allow_nan=False)
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(answer + "\n")
        answers.flush()


main()
