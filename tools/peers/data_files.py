#!/usr/bin/env python3
"""Data sets in CSV and Parquet against pandas and pyarrow. Usage: data_files.py QGRPO; data_files.py --vectors FOLDER.

Needs: numpy pandas pyarrow zstandard.
"""
import gzip
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import pandas
import pyarrow as pa
import pyarrow.parquet as pq

# How a table is written: every packing, page and encoding that is read.
KINDS = {
    "snappy": dict(compression="snappy"),
    "zstd-pages-2": dict(compression="zstd", data_page_version="2.0"),
    "gzip-plain": dict(compression="gzip", use_dictionary=False),
    "none-small-pages": dict(compression="none", data_page_size=64, write_batch_size=3),
    "row-groups": dict(compression="snappy", row_group_size=2),
    "delta": dict(compression="none", use_dictionary=False, data_page_version="2.0", column_encoding={
        "prompt": "DELTA_BYTE_ARRAY", "answer": "DELTA_LENGTH_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED", "small": "DELTA_BINARY_PACKED",
        "x": "BYTE_STREAM_SPLIT", "half": "BYTE_STREAM_SPLIT", "ok": "RLE"}),
}
ROWS = [
    dict(prompt="How many?", answer="7", n=1, small=-3, big=18446744073709551615, x=0.5, half=0.25, ok=True,
         messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": None}], tags=["x", "y"],
         deep=[[1, 2], [], [3]], extra={"gold": "g", "level": 2}),
    dict(prompt="How much? \"é\"\n", answer=None, n=None, small=4, big=0, x=None, half=-1.5, ok=None, messages=[], tags=None,
         deep=[], extra=None),
    dict(prompt="How many more?", answer="", n=-9223372036854775808, small=None, big=None, x=-2.25, half=None, ok=False, messages=None,
         tags=[None, ""], deep=None, extra={"gold": None, "level": None}),
    dict(prompt="", answer="72", n=9223372036854775807, small=100, big=5, x=1e300, half=2.0, ok=True,
         messages=[{"role": "user", "content": "b"}], tags=[], deep=[[]], extra={"gold": "", "level": 0}),
    dict(prompt="How", answer="7" * 40, n=0, small=0, big=1, x=3.0, half=0.0, ok=True, messages=[{"role": None, "content": "c"}],
         tags=["z"], deep=[None, [4, None]], extra={"gold": "h", "level": -1}),
]
SCHEMA = pa.schema([
    ("prompt", pa.string()), ("answer", pa.string()), ("n", pa.int64()), ("small", pa.int8()), ("big", pa.uint64()), ("x", pa.float64()),
    ("half", pa.float32()), ("ok", pa.bool_()), ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ("tags", pa.list_(pa.string())), ("deep", pa.list_(pa.list_(pa.int32()))),
    ("extra", pa.struct([("gold", pa.string()), ("level", pa.int32())])),
])


def write_vectors(folder):
    """tests/vectors/data_files: one table written in every way, its rows as JSON, and a table with columns that JSON cannot say."""
    os.makedirs(folder, exist_ok=True)
    table = pa.Table.from_pylist(ROWS, SCHEMA)
    for name, how in KINDS.items():
        pq.write_table(table, f"{folder}/{name}.parquet", **how)
    with open(f"{folder}/rows.jsonl", "w") as f:
        for row in table.to_pylist():
            f.write(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n")
    import datetime
    import decimal
    other = pa.table({"prompt": ["a", "b"], "when": [datetime.datetime(2024, 1, 1), None], "raw": [b"\xff", None],
                      "price": [decimal.Decimal("1.50"), None],
                      "image": pa.array([{"bytes": b"\x00", "path": "p"}, None], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                      "only": pa.array([{"raw": b"\x00"}, None], pa.struct([("raw", pa.binary())]))})
    pq.write_table(other, f"{folder}/other.parquet")
    pq.write_table(pa.table({"prompt": ["a"]}), f"{folder}/lz4.parquet", compression="lz4")


def run(program, *args, stdin=""):
    done = subprocess.run([program, *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}: {done.stderr}")
    return done.stdout


def rows_of(program, model, path):
    """What qgrpo reads: the rows of a data set but two, on which it trains, as it writes them out."""
    with tempfile.TemporaryDirectory() as out:
        run(program, "train", "--model", model, "--dataset", path, "--train-split", "2", "--output-dir", f"{out}/run", "--max-steps", "1",
            "--prompts-per-step", "1", "--num-generations", "2", "--max-completion-length", "1", "--reward", "xmlcount", "--lora-r", "2",
            "--system-prompt", "", "--preflight", "0", "--device", "cpu")
        with open(f"{out}/run/held_out.jsonl") as f:
            return [json.loads(line) for line in f]


def check_rows(ours, want, where):
    """All of `want` but two, in their order, types too."""
    ours, want = [typed(row) for row in ours], [typed(row) for row in want]
    assert len(ours) == len(want) - 2, (where, len(ours), len(want))
    at = iter(want)
    for row in ours:
        assert row in at, (where, row, want)  # takes the iterator forward


def plain(value):
    """A value as JSON has it: no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def typed(value):
    """With the types, which Python's == does not tell apart."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [typed(v) for v in value]
    return (type(value).__name__, value)


def by_pandas(path, sep):
    """As datasets' csv builder has them: pandas, then Arrow."""
    frame = pandas.read_csv(path, sep=sep, float_precision="round_trip")  # datasets' "high" may miss the last bit
    return [plain(row) for row in pa.Table.from_pandas(frame, preserve_index=False).to_pylist()]


def random_field(rng, kind):
    word = lambda: "".join(rng.choice(["a", "B", " ", ",", '"', "\n", "\r\n", "\t", "é", "日", "'", ";", "#"]) for _ in range(rng.randrange(8)))
    number = lambda: rng.choice(["0", "-1", "007", "+5", str(rng.randrange(10**6)), str(rng.randrange(2**62)), " 3", "9 "])
    fraction = lambda: rng.choice(["1.5", "-0.25", "1e5", "2.", ".5", "1E-3", str(rng.random()), number()])
    boolean = lambda: rng.choice(["True", "False", "true", "FALSE"])
    missing = lambda: rng.choice(["", "NA", "NaN", "null", "None", "n/a", "#N/A", "-nan", "<NA>"])
    return {"word": word, "int": number, "float": fraction, "bool": boolean, "int?": lambda: rng.choice([number, missing])(),
            "float?": lambda: rng.choice([fraction, missing])(), "bool?": lambda: rng.choice([boolean, missing])(),
            "word?": lambda: rng.choice([word, missing, number])(), "mixed": lambda: rng.choice([number, fraction, boolean])()}[kind]()


def check_csv(program, model, work):
    rng = random.Random(5)
    kinds = ["word", "int", "float", "bool", "int?", "float?", "bool?", "word?", "mixed"]
    count = 0
    for trial in range(60):
        sep = rng.choice([",", "\t"])
        end = rng.choice(["\n", "\r\n"])
        columns = [(f"c{i}", rng.choice(kinds)) for i in range(rng.randrange(1, 6))]
        quote = lambda text: '"' + text.replace('"', '""') + '"' if rng.random() < 0.3 or any(c in text for c in ',"\r\n\t') else text
        lines = [sep.join(["prompt"] + [name for name, _ in columns])]
        for i in range(rng.randrange(3, 14)):
            lines.append(sep.join([f"q{i}"] + [quote(random_field(rng, kind)) for _, kind in columns]))
        path = f"{work}/{trial}{'.csv' if sep == ',' else '.tsv'}"
        text = rng.choice(["", "\ufeff"]) + end.join(lines) + rng.choice(["", end])
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(text)
        want = by_pandas(path, sep)
        check_rows(rows_of(program, model, path), want, path)
        count += len(want)
    print(f"csv: {count} rows of 60 random files as pandas reads them, types too")


def check_parquet(program, model, work):
    rng = random.Random(7)
    count = files = 0
    for name, how in KINDS.items():
        for trial in range(6):
            rows = []
            for i in range(rng.choice([3, 7, 300])):
                row = json.loads(json.dumps(rng.choice(ROWS)))
                row["prompt"] = f"q{i} {rng.randrange(50)}"
                row["n"] = rng.choice([None, i, -i * 10**rng.randrange(15)])
                row["deep"] = rng.choice([None, [[rng.randrange(9) for _ in range(rng.randrange(4))] for _ in range(rng.randrange(4))]])
                rows.append(row)
            path = f"{work}/{name}-{trial}.parquet"
            table = pa.Table.from_pylist(rows, SCHEMA).drop_columns(["messages"])
            pq.write_table(table, path, **how)
            want = [plain(row) for row in table.to_pylist()]
            check_rows(rows_of(program, model, path), want, path)
            count, files = count + len(want), files + 1
    print(f"parquet: {count} rows of {files} files in {len(KINDS)} ways as pyarrow reads them")


def check_packed(program, model, work):
    import zstandard
    text = b"prompt,answer\na,1\nb,2\nc,3\n"
    for name, packed in (("d.csv.gz", gzip.compress(text)), ("d.csv.zst", zstandard.compress(text))):
        with open(f"{work}/{name}", "wb") as f:
            f.write(packed)
        check_rows(rows_of(program, model, f"{work}/{name}"), [dict(prompt=p, answer=a) for p, a in (("a", 1), ("b", 2), ("c", 3))], name)
    print("packed: gzip and zstd of the other libraries")


if __name__ == "__main__":
    if sys.argv[1] == "--vectors":
        write_vectors(sys.argv[2])
        sys.exit()
    with tempfile.TemporaryDirectory() as work:
        model = f"{work}/demo"
        run(sys.argv[1], "sft", "--make-demo-model", model, "--max-steps", "1")
        check_csv(sys.argv[1], model, work)
        check_parquet(sys.argv[1], model, work)
        check_packed(sys.argv[1], model, work)
    print("data_files: all checks passed")
