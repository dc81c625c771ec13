#!/usr/bin/env bash
# A real 0.5B model learns GSM8K on a CPU, in two stages, and sits the same examination before and after each:
#   1. cold start   supervised fine-tuning on 480 of GSM8K's own solutions, in the format of the rewards
#   2. GRPO         from there; the right number counts ten times as much as the format
# Every part goes on where it was stopped. docs/learning.md says why the settings are as they are.
#
#   bench/learning/gsm8k.sh MODEL_DIR GSM8K_DIR [OUTPUT_DIR]      (default: outputs/learning)
#
# GSM8K_DIR holds train.jsonl and test.jsonl. QGRPO: the program (build/qgrpo); STEPS: of GRPO (160);
# QUESTIONS: of the test (200).
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
qgrpo=${QGRPO:-build/qgrpo} steps=${STEPS:-160} questions=${QUESTIONS:-200}
model=$1 data=$2 out=${3:-outputs/learning}
here=$(dirname "$0")
mkdir -p "$out"

run() { # run FOLDER ARGUMENTS...: begins or resumes a run
  local resume=()
  compgen -G "$out/$1/checkpoint-*" >/dev/null && resume=(--resume)
  "$qgrpo" "${@:2}" --output-dir "$out/$1" "${resume[@]}"
}
newest() { find "$out/$1" -maxdepth 1 -name 'checkpoint-*' | sort -t- -k2 -V | tail -n 1; }
examine() { # examine REPORT ADAPTER: base and adapter, the same questions
  [[ -e $out/$1 ]] || "$qgrpo" eval --model "$model" --adapter "$2" --dataset "$data/test.jsonl" --limit "$questions" \
    --match numeric --max-completion-length 200 --batch-size 64 --output "$out/$1"
}
lora=(--lora-r 16 --lora-alpha 32 --device-memory 6GB)

python3 "$here/cold_start.py" "$data/train.jsonl" 480 >"$out/cold-start.jsonl"
[[ -e $out/1-cold-start/checkpoint-30 ]] || run 1-cold-start sft --model "$model" --dataset "$out/cold-start.jsonl" "${lora[@]}" \
  --learning-rate 2e-4 --per-device-train-batch-size 16 --num-train-epochs 1 --save-steps 10 --logging-steps 1
run 2-grpo train --model "$model" --dataset "$data/train.jsonl" --adapter "$(newest 1-cold-start)" "${lora[@]}" \
  --rewards numeric:1,xmlcount:0.2 --scale-rewards none --beta 0 --temperature 0.7 --learning-rate 3e-5 \
  --lr-scheduler-type constant --prompts-per-step 2 --num-generations 8 --max-completion-length 200 \
  --max-steps "$steps" --save-steps 10 --save-total-limit 3 --preflight 0
examine before.json "$(newest 1-cold-start)"
examine after.json "$(newest 2-grpo)"
python3 "$here/paired.py" "$out/before.json" "$out/after.json"
