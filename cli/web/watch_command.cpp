#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <thread>

#include "cli/commands.h"
#include "cli/stop_signals.h"
#include "cli/web/watch.h"
#include "model/io/bytes.h"
#include "model/io/file.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "train/run/stop.h"
#include "watch/board.h"
#include "watch/export.h"
#include "watch/page.h"
#include "watch/server.h"
#include "web/server.h"

namespace qgrpo::cli {
namespace {

struct WatchCommand {
  std::vector<std::string> runs;
  WatchAddress address;
  std::string export_file;
};

std::vector<std::string> folders(const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const std::string& name : names)
    for (const std::string& folder : watch::run_folders(name))
      if (std::find(out.begin(), out.end(), folder) == out.end()) out.push_back(folder);
  return out;
}

int run_export(const WatchCommand& command) {
  watch::Board board(folders(command.runs));
  board.read_all();
  for (const auto& run : board.runs())
    require(run->metrics().rows() > 0 || !run->completions().groups().empty(),
            "{}: has no step yet: nothing to export", run->folder());
  const std::string page = watch::exported_page(board.runs());
  io::write_file_atomically(command.export_file, page);
  io::print_error("qgrpo: {}: {}, opens in a browser without this program\n", command.export_file,
                  io::format_bytes(page.size()));
  return 0;
}

int run_watch(const WatchCommand& command) {
  if (!command.export_file.empty()) return run_export(command);
  watch::Board board(folders(command.runs));
  const auto server = listen(command.address);
  watch::add_routes(*server, board, command.address.api_key);
  for (const auto& run : board.runs()) io::print_error("qgrpo: watching {}\n", run->folder());
  if (!web::is_loopback(command.address.host) && command.address.api_key.empty())
    io::print_error("qgrpo: note: whoever reaches this machine can read these runs\n");
  std::cout << server->address() << '/' << watch::key_query(command.address.api_key) << '\n'
            << std::flush;
  const StopSignals signals;
  const auto stopping = [] { return train::stop_requested.load(); };
  std::thread reader([&] { board.follow([&] { return server->draining() || stopping(); }); });
  server->run(stopping);
  reader.join();
  return train::stop_requested ? train::interrupted_exit_code() : 0;
}

}  // namespace

void add_watch_command(CommandLine& line) {
  const auto command = std::make_shared<WatchCommand>();
  OptionTable table = line.command(
      "watch", "Show runs in the browser while they learn",
      "Example: qgrpo watch runs/gsm8k\n"
      "Prints the address and serves it until Ctrl-C. RUN is a run's folder, or one with runs in "
      "it; several are drawn over each other.\n"
      "Of a machine far away: ssh -L 8001:localhost:8001 MACHINE, and open http://localhost:8001.",
      [command] { return run_watch(*command); });
  table.value("RUN", command->runs, "DIR", "Folders of runs, live or ended").required();
  table.value("--host", command->address.host, "ADDRESS",
              "Where to listen; 0.0.0.0: for everybody");
  table.value("--port", command->address.port, "N",
              "Port; 0: any that is free. Default: 8001, or the next that is free");
  table.value("--api-key", command->address.api_key, "KEY",
              "What a browser must bring: http://HOST:PORT/?key=KEY");
  table.value("--export", command->export_file, "FILE",
              "Write one HTML page with everything in it instead, to be sent to someone");
  table.checks([command] {
    require_usage(
        !command->address.port || (*command->address.port >= 0 && *command->address.port <= 65535),
        "--port: found {}, expected 0 to 65535", command->address.port.value_or(0));
  });
}

}  // namespace qgrpo::cli
