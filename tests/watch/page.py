#!/usr/bin/env python3
"""The page of `qgrpo watch` in a browser: a run that learns meanwhile, a long one, one whose texts attack the page; and
the page that --export writes.

    tests/watch/page.py --program build/qgrpo [--screenshots FOLDER]

Exit status 77 where there is no Chromium (tools/setup --browser installs it)."""
import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from devtools import Browser, find_chromium  # noqa: E402 (beside this file)

ATTACK = "</script><script>window.attacked=1</script><img src=x onerror='window.attacked=2'><b>bold</b>&lt;"


def write_run(folder, first, last, steps, status, texts=4):
    """A run's lines of the steps first to last, as a trainer writes them: of made-up numbers."""
    os.makedirs(folder, exist_ok=True)
    start = {"time": "2026-01-31T10:00:00Z", "status": status, "first_step": 1, "last_step": last, "version": "0.1.0",
             "device": "cpu: AVX2, 2 threads", "host": "elsewhere", **({} if status == "running" else {"end_time": "2026-01-31T11:00:00Z"})}
    with open(f"{folder}/run.json", "w", encoding="utf-8") as file:
        json.dump({"trainer": "grpo", "options": {"model": "Qwen/Qwen2.5-0.5B-Instruct", "max_steps": str(steps), "num_generations": "4",
                                                  "system_prompt": ATTACK}, "starts": [start]}, file)
    with open(f"{folder}/metrics.jsonl", "a", encoding="utf-8") as metrics, \
            open(f"{folder}/completions.jsonl", "a", encoding="utf-8") as completions:
        for step in range(first, last + 1):
            chance = random.Random(step)
            p = 1 / (1 + math.exp(-8 * (step / steps - 0.4)))
            print(json.dumps({
                "step": step, "loss": chance.gauss(0, 0.01), "grad_norm": abs(chance.gauss(0.6, 0.2)),
                "learning_rate": 5e-6 * (1 + math.cos(math.pi * step / steps)) / 2, "reward": 1 + 2 * p + chance.gauss(0, 0.2),
                "reward_std": 0.8 - 0.4 * p, "rewards/correctness/mean": 2 * p, "rewards/correctness/std": 0.5,
                "rewards/xmlcount/mean": 0.5 * p, "rewards/xmlcount/std": 0.1, "kl": 0.02 * step / steps, "entropy": 0.6 - 0.4 * p,
                "completions/mean_length": 120 - 40 * p + chance.gauss(0, 8), "completions/min_length": 60,
                "completions/max_length": 200, "completions/clipped_ratio": 0.2 - 0.2 * p, "step_time": 1.5,
                "tokens_per_second": 300 + chance.gauss(0, 20)}), file=metrics)
            if step % max(1, steps // 500) and step != last:
                continue
            for i in range(texts):
                right = chance.random() < p
                print(json.dumps({
                    "step": step, "prompt": f"Tom has {step % 9 + 3} apples. {ATTACK}",
                    "completion": f"<answer>\n{step} {'needle' if step == 7 and i == 1 else 'hay'}\n</answer>{ATTACK}", "answer": "7",
                    "xmlcount": 0.5, "correctness": 2.0 * right, "reward": 0.5 + 2.0 * right, "advantage": 1.0 if right else -1.0,
                    "length": 30, "terminated": i != 3}), file=completions)


@contextlib.contextmanager
def watching(program, *arguments):
    process = subprocess.Popen([program, "watch", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (address, process.stderr.read() if process.poll() is not None else "")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    assert code == 143, f"ended with {code}: {process.stderr.read()}"


POINTS = "[...document.querySelectorAll('.plot')].map((plot) => Number(plot.dataset.points || 0))"
COMPLETIONS = "document.querySelectorAll('#group .card').length"


def inert(page):
    """Nothing of what a model wrote has become a part of the page, and nobody else was asked."""
    assert page.evaluate("window.attacked === undefined")
    assert page.evaluate("document.querySelectorAll('img, main script, main b b, iframe').length") == 0
    assert "</script><script>window.attacked=1</script>" in page.evaluate("document.querySelector('#group .card .text').textContent")
    assert page.errors() == [], page.errors()


def fits(page):
    wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    assert wide <= 0, f"{wide} pixels more than the window is wide: " + page.evaluate(
        "[...document.querySelectorAll('main *')].filter((n) => n.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
        ".slice(0, 5).map((n) => n.className || n.tagName).join(', ')")


def a_run_that_learns(browser, program, folder):
    subprocess.run([program, "sft", "--make-demo-model", f"{folder}/model", "--max-steps", "2", "--device", "cpu", "--threads", "1"],
                   check=True, capture_output=True)
    run = f"{folder}/learning"
    os.makedirs(run)
    with watching(program, run) as address:
        page = browser.page()
        page.open(address)
        page.wait("document.body && document.getElementById('state').textContent === 'waiting'")
        training = subprocess.Popen(
            [program, "train", "--model", f"{folder}/model", "--dataset", f"{folder}/model/train.jsonl", "--max-steps", "100000",
             "--lora-r", "2", "--num-generations", "4", "--max-completion-length", "24", "--device", "cpu", "--threads", "1", "--output-dir", run],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        page.wait("document.getElementById('state').textContent === 'running'", 120)
        page.wait(f"{COMPLETIONS} === 4", 60)
        page.wait(f"Math.min(...{POINTS}) >= 25", 240)
        # However quick the machine is, the page has seen the run at work.
        training.send_signal(signal.SIGINT)
        code = training.wait(60)
        assert code == 130, training.stderr.read()
        page.wait("document.getElementById('state').textContent === 'interrupted'", 20)
        page.wait("/^step [0-9]+ of 100,?000$/.test(document.getElementById('steps').textContent)")
        assert page.evaluate(POINTS + ".length") > 20
        assert "lora_r" in page.evaluate("document.getElementById('details').textContent")
        assert page.errors() == [], page.errors()
        assert all(url.startswith(address) or url.startswith("data:") for url in page.requests()), page.requests()


def a_training_that_shows_itself(browser, program, folder):
    """`train --watch`: a page that is open sees how the training ends."""
    training = subprocess.Popen(
        [program, "train", "--model", f"{folder}/model", "--dataset", f"{folder}/model/train.jsonl", "--max-steps", "400", "--hours", "0.004",
         "--lora-r", "2", "--num-generations", "4", "--max-completion-length", "24", "--device", "cpu", "--threads", "1", "--output-dir",
         f"{folder}/itself", "--log-token-logprobs", "--watch"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    address = ""
    while not address.startswith("http://127.0.0.1:"):
        line = training.stderr.readline()
        assert line, "it has ended and named no address"
        address = line.split()[-1]
    page = browser.page()
    page.open(address)
    page.wait(f"{COMPLETIONS} === 4", 60)
    page.wait("document.getElementById('left').textContent.includes('left')")
    page.wait("[...document.querySelectorAll('#group label')].some((label) => label.textContent.includes('how likely') && (label.click(), true))")
    page.wait("document.querySelectorAll('#group .token').length > 10")
    page.wait("document.getElementById('state').textContent === 'finished'", 60)
    assert "Memory plan" in page.evaluate("document.getElementById('details').textContent")
    assert training.wait(20) == 0
    page.wait("document.body.dataset.connection === 'lost' && !document.getElementById('message').hidden")


def a_reader_keeps_the_place(browser, program, folder):
    """A long run that grows while someone reads it."""
    run = f"{folder}/long"
    write_run(run, 1, 9000, 10000, "running")
    with watching(program, run) as address:
        page = browser.page()
        page.open(address)
        page.wait(f"Math.min(...{POINTS}) > 50")
        page.wait(f"{COMPLETIONS} === 4")
        assert page.evaluate(f"Math.max(...{POINTS})") <= 1200  # what is drawn does not grow with the run
        inert(page)
        fits(page)

        # A search, whose text, selection and scroll stay when steps come.
        page.evaluate("document.getElementById('from').focus()")
        page.type("100")
        page.wait("document.querySelectorAll('#list li').length === 30")
        page.evaluate("document.getElementById('search').focus()")
        page.type("HAY")
        page.wait("document.querySelector('#group mark') && document.querySelector('#group mark').textContent === 'hay'")
        page.evaluate("document.getElementById('list').focus()")
        for _ in range(3):
            page.key("ArrowDown")
        chosen = page.wait("(document.querySelector('#list [aria-selected=true]') || {}).id")
        page.evaluate("document.getElementById('list').scrollTop = 333; window.scrollTo(0, 1500)")
        drawn = page.evaluate("Number(document.body.dataset.drawn)")
        before = page.evaluate("[scrollY, document.getElementById('list').scrollTop, document.documentElement.scrollHeight]")
        write_run(run, 9001, 9100, 10000, "running")
        page.wait(f"Number(document.body.dataset.drawn) > {drawn} && document.getElementById('steps').textContent.includes('9,100')")
        page.wait("document.getElementById('newer').textContent.includes('newer') && !document.getElementById('newer').disabled")
        assert page.evaluate("[scrollY, document.getElementById('list').scrollTop, document.documentElement.scrollHeight]") == before
        assert page.evaluate("document.querySelector('#list [aria-selected=true]').id") == chosen
        assert page.evaluate("document.getElementById('search').value") == "HAY"

        # Only failures, by the keyboard; the cards that are left all failed.
        page.evaluate("document.getElementById('filter').value = 'failed';"
                      "document.getElementById('filter').dispatchEvent(new Event('change'))")
        page.wait("document.querySelector('#group .card[data-failed=true]') !== null")
        page.evaluate("document.querySelector('#group .group-head input').click()")
        page.wait("document.querySelectorAll('#group .card').length && !document.querySelector('#group .card[data-failed=false]')")

        # Plots by the keyboard: the cursor, what it says, a part of the run, the completions of a step.
        page.evaluate("document.querySelector('#hero svg[role=img]').focus()")
        latest = page.wait("document.querySelector('#hero .readout').textContent")
        page.key("ArrowLeft")
        page.wait(f"document.querySelector('#hero .readout').textContent !== {json.dumps(latest)}")
        page.key("+")
        page.wait("!document.getElementById('whole').disabled")
        page.key("Escape")
        page.wait("document.getElementById('whole').disabled")
        page.key("Home")
        page.key("Enter")
        page.wait("document.activeElement.id === 'list' && document.getElementById('to').value !== ''")

        # By the mouse: hovering tells values, dragging chooses a part.
        page.evaluate("window.scrollTo(0, 0)")
        x, y, w = page.evaluate("(() => { const b = document.querySelector('#hero svg[role=img]').getBoundingClientRect(); return [b.x, b.y + 60, b.width]; })()")
        page.mouse("mouseMoved", x + w / 2, y)
        page.wait("document.querySelector('#hero .readout').textContent.includes('step')")
        page.mouse("mousePressed", x + w / 3, y, "left")
        page.mouse("mouseMoved", x + w / 2, y, "left")
        page.mouse("mouseReleased", x + w / 2, y, "left")
        page.wait("!document.getElementById('whole').disabled")
        assert page.errors() == [], page.errors()


def runs_over_each_other(browser, program, folder, screenshots):
    for i, steps in enumerate((400, 300, 200)):
        write_run(f"{folder}/several/run{i}", 1, 200, steps, "finished" if steps == 200 else "interrupted")
    with watching(program, f"{folder}/several") as address:
        page = browser.page()
        page.open(address)
        page.wait("document.querySelectorAll('#runs li').length === 3")
        page.wait("document.querySelectorAll('#hero path.line').length === 3")
        page.evaluate("document.querySelector('#runs input').click()")
        page.wait("document.querySelectorAll('#hero path.line').length === 2")
        page.evaluate("document.querySelectorAll('#runs button')[2].click()")
        page.wait("document.querySelectorAll('#runs li')[2].dataset.chosen === 'true'")
        fits(page)
        assert page.errors() == [], page.errors()
        if screenshots:
            page.screenshot(f"{screenshots}/several.png")


def the_exported_page(browser, program, folder, screenshots):
    run = f"{folder}/exported"
    write_run(run, 1, 600, 600, "finished")
    subprocess.run([program, "watch", run, "--export", f"{folder}/page.html"], check=True, capture_output=True)
    shutil.rmtree(run)
    for width, dark, name in ((1280, False, "wide"), (360, True, "phone")):
        page = browser.page(width=width, height=900, dark=dark, phone=width < 500)
        page.open(f"file://{folder}/page.html")
        page.wait(f"document.querySelectorAll('.plot').length > 10 && Math.min(...{POINTS}) > 50")
        page.wait(f"{COMPLETIONS} === 4")
        inert(page)
        fits(page)
        page.evaluate("document.getElementById('search').focus()")
        page.type("needle")
        page.wait("document.querySelectorAll('#list li').length === 1")
        page.wait("document.querySelector('#group mark') !== null")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ("rgb(20, 23, 27)" if dark else "rgb(246, 247, 249)")
        asked = [url for url in page.requests() if not url.startswith(("data:", "file:"))]
        assert asked == [] and len(page.requests()) <= 2, page.requests()
        if screenshots:
            page.screenshot(f"{screenshots}/exported-{name}.png", whole=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--screenshots")
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("SKIPPED: the page of `qgrpo watch` was not opened in a browser: there is no chromium (tools/setup --browser installs it)")
        return 77
    if options.screenshots:
        os.makedirs(options.screenshots, exist_ok=True)
    program = os.path.abspath(options.program)
    cases = 0
    with tempfile.TemporaryDirectory(prefix="qgrpo-watch-") as folder:
        browser = Browser(chromium)
        try:
            for case in (lambda: a_run_that_learns(browser, program, folder), lambda: a_training_that_shows_itself(browser, program, folder),
                         lambda: a_reader_keeps_the_place(browser, program, folder),
                         lambda: runs_over_each_other(browser, program, folder, options.screenshots),
                         lambda: the_exported_page(browser, program, folder, options.screenshots)):
                case()
                cases += 1
        finally:
            browser.close()
    print(f"{cases} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
