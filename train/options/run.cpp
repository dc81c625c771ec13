#include "train/options/run.h"

#include <algorithm>
#include <cctype>

namespace qgrpo::train {

void describe(RunOptions& o, OptionSet& set) {
  set.group("Steps");
  set.whole("max_steps", o.max_steps, "N", "Optimizer steps")
      .within(0, 1 << 30, "0 = the default")
      .decides();
  set.number("hours", o.hours, "X",
             "Instead of --max-steps: as many as fit into this time; 0 = off")
      .within(0, 1e5, "a number of hours (0 is off)")
      .decides_as("schedule", [&o] { return o.hours > 0 ? "hours" : "steps"; });

  set.group("The run");
  set.text("output_dir", o.output_dir, "DIR", "Checkpoints and logs").test([&o] {
    require(!o.output_dir.empty(), "found an empty name, expected a folder");
  });
  set.text("resume", o.resume, "[DIR]",
           "Go on with a run, or from one of its checkpoints, with its own options; without a "
           "folder, with that of --output-dir")
      .alone_means("latest")
      .for_one_start();
  set.flag("overwrite_output_dir", o.overwrite_output_dir,
           "Start anew in an output folder that holds an earlier run")
      .for_one_start();
  set.whole("seed", o.seed, "N", "Decides all random numbers").decides();
  set.whole("save_steps", o.save_steps, "N", "Steps between checkpoints; 0 = only the last")
      .within(0, 1 << 30, "0 = only at the end");
  set.whole("save_total_limit", o.save_total_limit, "N", "Keep the newest N; 0 = all")
      .within(0, 1 << 30, "0 = keep all");
  set.whole("logging_steps", o.logging_steps, "N", "Steps between console lines")
      .within(1, 1 << 30, "steps between console lines");
  set.whole("threads", o.threads, "N", "CPU threads; 0 = all cores")
      .within(0, 1024, "0 = all cores");
  set.list("report_to", o.report_to, "NAME",
           "Besides metrics.jsonl: tensorboard (OUTPUT_DIR/runs), wandb, or none")
      .separated_by(',')
      .test([&o] { check_report_to(o.report_to); });
  set.text("python", o.python, "PROGRAM",
           "Runs rewards in Python (default: $QGRPO_PYTHON, else python3)");

  set.group("The Hub");
  set.flag("push_to_hub", o.push_to_hub,
           "Send what is saved to --hub-model-id, with a model card, while the run goes on");
  set.text("hub_model_id", o.hub_model_id, "NAME",
           "OWNER/NAME, made where there is none; takes a token that may write (HF_TOKEN)");
  set.choice("hub_strategy", o.hub_strategy, kHubStrategyNames,
             "every_save: each checkpoint, unless another is on its way; end: the result alone");
  set.flag("hub_private_repo", o.hub_private_repo, "A repository that is made now is private");
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "_-./,:=+@%";
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [&](unsigned char c) {
    return std::isalnum(c) != 0 || kPlain.find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

void check_report_to(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    require(name == "tensorboard" || name == "wandb" || name == "none",
            "found \"{}\", expected tensorboard, wandb or none", name);
  }
  require(names.size() == 1 || std::count(names.begin(), names.end(), "none") == 0,
          "found none beside others, expected it alone");
}

void check_together(const RunOptions& run, const AdamOptions& optimizer) {
  require(run.resume.empty() || !run.overwrite_output_dir,
          "--resume and --overwrite-output-dir: found both, expected one");
  require(!run.push_to_hub || !run.hub_model_id.empty(),
          "--push-to-hub: found no --hub-model-id, expected OWNER/NAME");
  require(run.hours == 0 || optimizer.warmup_steps == 0,
          "--hours and --warmup-steps: found both; with --hours the warm-up is a part of the run: "
          "give --warmup-ratio");
}

}  // namespace qgrpo::train
