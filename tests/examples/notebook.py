#!/usr/bin/env python3
"""The example notebook runs from top to bottom on the built-in demo, and shows what it promises.

    notebook.py --program QGRPO

Takes Debian's python3-nbclient and python3-ipykernel; says that it is skipped where they are missing (exit code 77).
"""

import argparse
import importlib.util
import os
import sys
import tempfile

NOTEBOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/grpo_gsm8k.ipynb")
SYSTEM_PYTHON = "/usr/bin/python3"  # for which Debian's packages are
SKIPPED = 77


def require_jupyter():
    if all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel")):
        return
    if os.path.exists(SYSTEM_PYTHON) and os.path.realpath(sys.executable) != os.path.realpath(SYSTEM_PYTHON):
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])
    print("SKIPPED: nbclient and ipykernel are missing; tools/setup --test installs them")
    sys.exit(SKIPPED)


def execute(folder):
    # Here and nowhere else: nothing of the user's Jupyter is read or written.
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        os.environ[name] = os.path.join(folder, name.lower())
        os.makedirs(os.environ[name], mode=0o700)
    os.environ["JUPYTER_PATH"] = "/usr/share/jupyter"
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count):
            sys.exit(f"{NOTEBOOK}: cell {cell.id} was saved with its outputs; clear them")
    # A GPU of this machine does not matter: the demo is asked for.
    notebook.cells[1].source += "\nDEMO = True\n"
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3",
                            resources={"metadata": {"path": folder}}).execute()
    return notebook


def texts(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    program = os.path.abspath(parser.parse_args().program)
    require_jupyter()
    os.environ.update(QGRPO=program, STEPS="3", PYDEVD_DISABLE_FILE_VALIDATION="1")
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(folder)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        shown = "".join(map(texts, cells))
        pictures = [output.data["image/svg+xml"] for cell in cells for output in cell.outputs
                    if "image/svg+xml" in output.get("data", {})]  # fmt: skip
        expected = {
            "the program's version": shown.startswith("qgrpo "),
            "a question of the demo": '"question": "' in shown,
            "the rewards of a perfect answer": "'total': 3.5" in shown,
            "the last step": "step 3 of 3" in shown,
            "a checkpoint": "runs/notebook/checkpoint-3\n" in shown,
            "answers before and after": "before:\n" in shown and "after:\n" in shown,
            "a plot of reward and length": any("reward: " in p and "tokens an answer: " in p for p in pictures),
            "a merged model": os.path.exists(os.path.join(folder, "runs/merged/model.safetensors")),
        }
    missing = [what for what, there in expected.items() if not there]
    if missing:
        sys.exit(f"the notebook does not show {', '.join(missing)}; it shows:\n{shown}")
    print(f"the notebook's {len(cells)} code cells show all {len(expected)} things")


if __name__ == "__main__":
    main()
