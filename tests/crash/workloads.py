"""What the crash test lets the program do: a command, what goes before it, what a user does after it was cut
short, and what must be there then. Every path is relative to the case's folder, so that cases compare."""
import base64
import json
import os
import re
import shutil
import urllib.request

INPUTS = "../../inputs"  # as seen from a case's folder; nothing there may change
TRAIN = ["--model", f"{INPUTS}/model", "--max-steps", "3", "--save-steps", "1", "--lora-r", "2",
         "--lora-target-modules", "q_proj", "--learning-rate", "0.001", "--device", "cpu", "--threads", "1",
         "--output-dir", "out"]
GRPO = ["train", *TRAIN, "--dataset", f"{INPUTS}/questions.jsonl", "--num-generations", "4",
        "--max-completion-length", "12", "--temperature", "1.5", "--reward", "xmlcount,int", "--save-total-limit", "2"]
SFT = ["sft", *TRAIN, "--dataset", f"{INPUTS}/sft.jsonl"]
EXPORT = ["export", "--model", f"{INPUTS}/model", "--adapter", f"{INPUTS}/run/checkpoint-3", "--threads", "1"]

# What two runs of one setting may differ in.
TIMES = re.compile(r'"(step_time[^"]*|elapsed_seconds|eval_runtime|tokens_per_second[^"]*|speed_of_light[^"]*|metrics_offset|completions_offset'
                   r'|time|end_time|seconds)": ?[-+.0-9eE"TZ:]+')


def comparable(path, content):
    if path.endswith("trainer_state.json"):  # its own checksum, which the times decide too
        content = re.sub(rb', "checksum": "[0-9a-f]+"}\s*$', b"}", content)
    if path.endswith((".jsonl", "trainer_state.json")):
        return TIMES.sub("", content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if path.endswith("run.json"):  # a record of every start: only how the last one ended
        return json.loads(content)["starts"][-1]["status"].encode()
    return content


def tree(folder, skip=()):
    """Path -> what is there, of all that counts."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in files + folders:
            path = os.path.relpath(os.path.join(parent, name), folder)
            whole = os.path.join(folder, path)
            if any(re.search(pattern, path) for pattern in skip):
                continue
            if os.path.islink(whole):
                found[path] = b"-> " + os.readlink(whole).encode()
            elif os.path.isdir(whole):
                found[path] = b"folder"
            else:
                with open(whole, "rb") as file:
                    found[path] = comparable(path, file.read())
    return found


def checkpoints(folder):
    return [n for n in (os.listdir(folder) if os.path.isdir(folder) else []) if re.fullmatch(r"checkpoint-\d+", n)]


class Workload:
    def __init__(self, name, command, before=None, again=None, skip=()):
        self.name, self.command, self.skip = name, command, skip
        self._before, self._again = before, again

    def before(self, case):
        with open(os.path.join(case, "users.txt"), "w", encoding="utf-8") as file:
            file.write("the user's own\n")
        if self._before:
            self._before(case)

    def environment(self, case):
        del case
        return {}

    def again(self, case):
        """What a user runs once it was cut short; None: nothing is left to do."""
        return self._again(case) if self._again else self.command

    def intermediate(self, case, reference):
        """What is wrong right after it was cut short, or nothing."""
        del case, reference


class Training(Workload):
    """Goes on from the newest checkpoint, or begins anew where there is none."""

    def again(self, case):
        out = os.path.join(case, "out")
        if self._again:
            return self._again(case)
        if checkpoints(out):
            return [self.command[0], "--resume", "out"]
        return [*self.command, "--overwrite-output-dir"]

    def intermediate(self, case, reference):
        if "--overwrite-output-dir" in self.command:
            return None  # it may be another run's
        for name in checkpoints(os.path.join(case, "out")):
            wanted = {p: c for p, c in reference.items() if p.startswith(f"out/{name}/")}
            found = tree(case)
            for path, content in wanted.items():
                if found.get(path) != content:
                    return f"{path} of a checkpoint that is there: not as in the undisturbed run"
        return None


class Pull(Workload):
    def __init__(self, name, server):
        super().__init__(name, ["pull", "org/name"], skip=[r"(^|/)\.locks(/|$)"])
        self.server = server

    def environment(self, case):
        return {"HF_ENDPOINT": self.server.endpoint, "HF_HUB_CACHE": os.path.join(case, "hub"), "HF_TOKEN": ""}


def put_repo(endpoint, inputs):
    files = {}
    for name in sorted(os.listdir(os.path.join(inputs, "model"))):
        with open(os.path.join(inputs, "model", name), "rb") as file:
            files[name] = base64.b64encode(file.read()).decode()
    files["sub/notes.md"] = base64.b64encode(b"# notes\n").decode()
    body = json.dumps({"id": "org/name", "files": files}).encode()
    urllib.request.urlopen(urllib.request.Request(endpoint + "/_test/repo", body, method="POST")).read()


def copy_run(case, without=()):
    out = os.path.join(case, "out")
    shutil.copytree(os.path.join(case, INPUTS, "run"), out)
    for name in without:
        shutil.rmtree(os.path.join(out, name))


def earlier_export(to, output):
    def make(case):
        source = os.path.join(case, INPUTS, "exported", to)
        (shutil.copytree if os.path.isdir(source) else shutil.copy)(source, os.path.join(case, output))
    return make


def all_workloads(server):
    """The name of one says what it is of: --workload takes its beginning."""
    overwrite = ["--overwrite-output-dir"]
    run_skip = [r"/run\.lock$"]
    listed = [
        Training("train", GRPO, skip=run_skip),
        Training("train-resume", ["train", "--resume", "out"],
                 before=lambda case: copy_run(case, ["checkpoint-3"]), again=lambda case: ["train", "--resume", "out"],
                 skip=run_skip),
        Training("train-overwrite", [*GRPO, *overwrite, "--seed", "1"], before=copy_run,
                 again=lambda case: [*GRPO, *overwrite, "--seed", "1"], skip=run_skip),
        Training("train-tensorboard", [*GRPO, "--report-to", "tensorboard"], skip=[*run_skip, r"^out/runs(/|$)"]),
        Training("sft", SFT, skip=run_skip),
        Workload("demo-model", ["sft", "--make-demo-model", "out", "--max-steps", "1", "--device", "cpu"]),
        Workload("eval", ["eval", "--model", f"{INPUTS}/model", "--dataset", f"{INPUTS}/questions.jsonl", "--device",
                          "cpu", "--limit", "2", "--max-completion-length", "4", "--output", "answers.json"]),
        Workload("grade", ["grade", "--input", f"{INPUTS}/run/completions.jsonl", "--reward", "xmlcount",
                           "--keep-best", "1", "--keep-truncated", "--output", "kept.jsonl"]),
    ]
    for to, output in (("merged", "model"), ("bnb-4bit", "model"), ("gguf", "model.gguf")):
        command = [*EXPORT, "--to", to, "--output", output]
        if to == "merged":
            command += ["--max-shard-size", "200KB"]
        replaced = [*command, "--overwrite"]
        listed.append(Workload(f"export-{to}", command,
                               again=lambda case, c=command, o=output:
                               [*c, "--overwrite"] if os.path.exists(os.path.join(case, o)) else c))
        listed.append(Workload(f"export-{to}-overwrite", replaced, before=earlier_export(to, output)))
    if server:
        listed.append(Pull("pull", server))
    return listed


def make_inputs(inputs, run):
    """A model, questions, a finished run and exports of other weights, which the cases share."""
    os.makedirs(inputs)
    run(["sft", "--make-demo-model", "model", "--max-steps", "12", "--device", "cpu"])
    with open(os.path.join(inputs, "model", "train.jsonl"), encoding="utf-8") as file:
        lines = [next(file) for _ in range(8)]
    with open(os.path.join(inputs, "questions.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(lines)
    with open(os.path.join(inputs, "sft.jsonl"), "w", encoding="utf-8") as file:
        for line in map(json.loads, lines):
            print(json.dumps({"prompt": line["question"], "completion": line["answer"]}), file=file)
    here = [word.replace(f"{INPUTS}/", "../inputs/") for word in GRPO]
    run(["run" if word == "out" else word for word in here])
    config = os.path.join(inputs, "run", "config.toml")
    with open(config, encoding="utf-8") as file:
        text = file.read().replace("../inputs/", f"{INPUTS}/").replace('"run"', '"out"')
    with open(config, "w", encoding="utf-8") as file:
        file.write(text)
    os.makedirs(os.path.join(inputs, "exported"))
    for to in ("merged", "bnb-4bit", "gguf"):
        run(["export", "--model", "model", "--to", to, "--output", f"exported/{to}", "--threads", "1"])
