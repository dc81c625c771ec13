#!/usr/bin/env bash
# DeepSeek-R1's recipe in four stages on the built-in demo's tiny model, on a CPU, in a few minutes:
#   1. cold start        supervised fine-tuning on a few good answers
#   2. GRPO              reinforcement learning from there; the reference is stage 1's adapter
#   3. rejection         stage 2 answers the training questions several times, the good answers are
#      sampling          kept, and the base model learns from them anew
#   4. GRPO              reinforcement learning again; the reference is stage 3's adapter
# After each stage the held-out questions are asked, and at the end the curve is printed. docs/grpo.md
# explains every step. With a real model, replace $base and the two data sets by your own.
#
#   examples/r1-recipe.sh [OUTPUT_DIR]          (default: outputs/r1-recipe)
#
# QGRPO       the program                                        (build/qgrpo)
# BASE_STEPS  steps that the base model is taught by             (400)
# GRPO_STEPS  steps of each of the two reinforcement stages      (80)
# QUESTIONS   held-out questions that are asked after each stage (all 256)
set -euo pipefail

qgrpo=${QGRPO:-build/qgrpo}
out=${1:-outputs/r1-recipe}
base_steps=${BASE_STEPS:-400}
grpo_steps=${GRPO_STEPS:-80}
questions=${QUESTIONS:-0}
log=$out/log.txt
base=$out/base

say() { printf '%s\n' "$*"; }
run() { "$qgrpo" "$@" >>"$log" 2>&1 || { say "failed: qgrpo $*; see $log" >&2; tail -n 3 "$log" >&2; exit 1; }; }

# The folder of a run's newest checkpoint.
adapter_of() { ls -d "$out/$1"/checkpoint-* | sort -t- -k2 -V | tail -n 1; }

# One number of the report's greedy (or maj) results: number FILE MODE KEY
number() { grep -o "\"$2\": *{[^}]*}" "$1" | head -n 1 | grep -o "\"$3\": *[-0-9.e]*" | cut -d: -f2; }

# Asks the held-out questions: measure NAME [--adapter DIR --no-base]
measure() {
  local name=$1
  shift
  run eval --model "$base" --quantize none --dataset "$base/test.jsonl" --limit "$questions" \
    --system-prompt "" --max-completion-length 48 --maj 4 --temperature 1 \
    --rewards xmlcount,soft_format,strict_format,int,correctness --output "$out/$name.json" "$@"
  local report=$out/$name.json
  row "$name" "$(number "$report" greedy accuracy)" "$(number "$report" maj pass_at_1)" \
    "$(number "$report" maj mean_reward)" | tee -a "$out/curve.txt"
}
row() { awk -v n="$1" -v g="$2" -v s="$3" -v r="$4" 'BEGIN {
  printf "%-22s greedy %5.1f %%   sampled %5.1f %%   reward %5.2f  ", n, 100 * g, 100 * s, r
  for (i = 0; i < 40 * r / 3.5; ++i) printf "#"
  printf "\n" }'; }

lora=(--quantize none --lora-r 8 --lora-alpha 16 --weight-decay 0 --optim adamw_torch
  --max-grad-norm 1 --overwrite-output-dir)
grpo() { # grpo NAME STARTING_ADAPTER
  run train --model "$base" --dataset "$base/train.jsonl" --output-dir "$out/$1" --adapter "$2" \
    --reference adapter --beta 0.04 "${lora[@]}" --system-prompt "" --max-prompt-length 64 \
    --max-completion-length 48 --num-generations 8 --prompts-per-step 16 --temperature 1 \
    --max-steps "$grpo_steps" --learning-rate 3e-3 --warmup-ratio 0 --save-steps 0 --sample-steps 0
}

mkdir -p "$out"
rm -f "$out/curve.txt" "$log"

say "The base model: the demo's, taught to answer badly in $base_steps steps."
run sft --make-demo-model "$base" --max-steps "$base_steps" --seed 1
measure 0-base

say "1. Cold start: supervised fine-tuning on 64 good answers."
head -n 64 "$base/train.jsonl" | sed -E \
  's|^\{"question": ?"(.*)", ?"answer": ?"(.*)\\n#### (.*)"\}$|{"messages":[{"role":"user","content":"\1"},{"role":"assistant","content":"<reasoning>\\n\2\\n</reasoning>\\n<answer>\\n\3\\n</answer>\\n"}]}|' \
  >"$out/cold-start.jsonl"
run sft --model "$base" --dataset "$out/cold-start.jsonl" --output-dir "$out/1-sft" "${lora[@]}" \
  --num-train-epochs 3 --per-device-train-batch-size 16 --learning-rate 2e-3 --save-steps 0
measure 1-cold-start --adapter "$(adapter_of 1-sft)" --no-base

say "2. GRPO from there, $grpo_steps steps; the reference is the cold start's adapter."
grpo 2-rl "$(adapter_of 1-sft)"
measure 2-grpo --adapter "$(adapter_of 2-rl)" --no-base

say "3. Rejection sampling: 4 answers to each of 256 questions; the best right one of each is learned."
"$qgrpo" generate --model "$base" --adapter "$(adapter_of 2-rl)" --quantize none \
  --dataset "$base/train.jsonl" --limit 256 --system-prompt "" --num-generations 4 --temperature 1 \
  --max-tokens 48 --batch-size 64 >"$out/samples.jsonl" 2>>"$log"
run grade --input "$out/samples.jsonl" --min-reward 3.4 --keep-best 1 --output "$out/selected.jsonl"
say "   $(tail -n 1 "$log")"
run sft --model "$base" --dataset "$out/selected.jsonl" --output-dir "$out/3-sft" "${lora[@]}" \
  --num-train-epochs 2 --per-device-train-batch-size 16 --learning-rate 2e-3 --save-steps 0
measure 3-rejection-sampling --adapter "$(adapter_of 3-sft)" --no-base

say "4. GRPO again, $grpo_steps steps; the reference is stage 3's adapter."
grpo 4-rl "$(adapter_of 3-sft)"
measure 4-grpo --adapter "$(adapter_of 4-rl)" --no-base

say ""
say "The four stages on held-out questions (greedy and sampled accuracy, mean reward of at most 3.5):"
cat "$out/curve.txt"
