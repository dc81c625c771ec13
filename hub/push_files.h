#pragma once

#include <cstdint>
#include <string>
#include <vector>

// Which files of a folder are sent.
namespace qgrpo::hub {

struct PushFile {
  std::string path;   // in the repository
  std::string local;  // on this machine
  std::uint64_t size = 0;
};

struct PushSelection {
  std::vector<PushFile> files;
  std::vector<std::string> kept;  // a run's own records, which stay at home
};

// The files below `folder` that the patterns leave (as in PullOptions), by path. Hidden ones, *.tmp
// and *.incomplete stay at home, but for .gitattributes; so does what tells of the machine: a run's
// run.json, config.toml and run.lock, and TensorBoard's event files (host, folders), unless a pattern
// of `include` is that very path. Throws Error naming the file, unless `exclude` leaves it out: a
// link that leads out of the folder or round in a circle; a name that keys and tokens have (.env,
// *.pem, id_rsa, ..), and that no pattern of `include` is, letter by letter.
PushSelection push_files(const std::string& folder, const std::vector<std::string>& include,
                         const std::vector<std::string>& exclude);

}  // namespace qgrpo::hub
