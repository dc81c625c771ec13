#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "model/ops/error.h"

namespace qgrpo::tokenizer {
namespace {

constexpr std::uint32_t kNoMerge = UINT32_MAX;
constexpr std::uint64_t kNoPair = UINT64_MAX;  // no pair looks like this: ids are not negative
// Up to this many bytes the plain scan beats the heap.
constexpr std::size_t kShortWord = 64;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

BpeMerges::BpeMerges(const std::array<std::int32_t, 256>& byte_ids,
                     const std::vector<Merge>& merges, std::string where)
    : byte_ids_(byte_ids), where_(std::move(where)) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2 * merges.size(), 16));
  shift_ = 64 - std::countr_zero(size);
  slots_.assign(size, Slot{kNoPair, kNoMerge, 0});
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    slots_[slot_of(pair)] = {pair, static_cast<std::uint32_t>(rank), merges[rank].result};
  }
}

std::size_t BpeMerges::slot_of(std::uint64_t pair) const {
  // Fibonacci hashing: the product's high bits are well mixed.
  std::size_t slot = (pair * 0x9E3779B97F4A7C15u) >> shift_;
  while (slots_[slot].pair != pair && slots_[slot].pair != kNoPair) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

std::uint32_t BpeMerges::find(std::int32_t left, std::int32_t right, std::int32_t& result) const {
  const Slot& slot = slots_[slot_of(pair_of(left, right))];
  result = slot.result;
  return slot.rank;
}

void BpeMerges::encode_word(std::string_view word, Scratch& scratch,
                            std::vector<std::int32_t>& out) const {
  scratch.ids.resize(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(word[i]);
    scratch.ids[i] = byte_ids_[byte];
    require(scratch.ids[i] >= 0, "{}: the vocabulary has no token for byte 0x{:02X} of the text",
            where_, byte);
  }
  if (word.size() <= kShortWord) {
    merge_short(scratch, out);
  } else {
    merge_long(scratch, out);
  }
}

void BpeMerges::merge_short(Scratch& scratch, std::vector<std::int32_t>& out) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;      // [i]: of the pair (ids[i], ids[i + 1])
  auto& results = scratch.results;  // likewise
  std::size_t n = ids.size();
  ranks.resize(n);
  results.resize(n);
  for (std::size_t i = 0; i + 1 < n; ++i) ranks[i] = find(ids[i], ids[i + 1], results[i]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoMerge) break;
    ids[best] = results[best];
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    --n;
    if (best > 0) ranks[best - 1] = find(ids[best - 1], ids[best], results[best - 1]);
    if (best + 1 < n) ranks[best] = find(ids[best], ids[best + 1], results[best]);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n));
}

void BpeMerges::merge_long(Scratch& scratch, std::vector<std::int32_t>& out) const {
  using Candidate = Scratch::Candidate;
  constexpr std::int32_t kGone = -1;  // the token was joined to its left neighbour
  auto& ids = scratch.ids;
  auto& heap = scratch.heap;
  auto& next = scratch.next;
  auto& previous = scratch.previous;
  const auto n = static_cast<std::int32_t>(ids.size());
  require(ids.size() < INT32_MAX, "a word of {} bytes is too long", ids.size());

  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto candidate = [&](std::int32_t left, std::int32_t right, Candidate& found) {
    found.rank = find(ids[left], ids[right], found.result);
    found.position = static_cast<std::uint32_t>(left);
    return found.rank != kNoMerge;
  };
  next.resize(ids.size());
  previous.resize(ids.size());
  heap.clear();
  Candidate found;
  for (std::int32_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;
    if (i + 1 < n && candidate(i, i + 1, found)) heap.push_back(found);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate top = heap.back();
    heap.pop_back();
    const std::size_t left = top.position;
    if (ids[left] == kGone || next[left] == n) continue;
    const auto right = static_cast<std::size_t>(next[left]);
    std::int32_t result;
    // A candidate whose tokens have changed since is out of date.
    if (find(ids[left], ids[right], result) != top.rank) continue;
    ids[left] = result;
    ids[right] = kGone;
    next[left] = next[right];
    if (next[left] < n) previous[next[left]] = top.position;
    const auto push = [&](std::int32_t from, std::int32_t to) {
      if (!candidate(from, to, found)) return;
      heap.push_back(found);
      std::push_heap(heap.begin(), heap.end(), later);
    };
    if (previous[left] >= 0) push(previous[left], static_cast<std::int32_t>(left));
    if (next[left] < n) push(static_cast<std::int32_t>(left), next[left]);
  }
  for (std::int32_t i = 0; i < n; i = next[i]) {
    out.push_back(ids[i]);
  }
}

namespace {

constexpr std::size_t kCacheSlots = 1 << 16;
constexpr std::size_t kMostWords = kCacheSlots / 2;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD6E8FEB86659FD93u);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t hash_of(std::string_view word) {
  std::uint64_t hash = word.size();
  std::size_t i = 0;
  for (; i + 8 <= word.size(); i += 8) {
    std::uint64_t part;
    std::memcpy(&part, word.data() + i, 8);
    hash = mix(hash, part);
  }
  std::uint64_t rest = 0;
  std::memcpy(&rest, word.data() + i, word.size() - i);
  return mix(hash, rest);
}

}  // namespace

WordCache::WordCache() : slots_(kCacheSlots) {}

bool WordCache::find(std::string_view word, std::uint64_t& hash,
                     std::vector<std::int32_t>& out) const {
  hash = hash_of(word);
  for (std::size_t i = hash & (kCacheSlots - 1);; i = (i + 1) & (kCacheSlots - 1)) {
    const Slot& slot = slots_[i];
    if (slot.length == 0) return false;
    if (slot.hash == hash && slot.length == word.size() &&
        std::memcmp(texts_.data() + slot.text, word.data(), word.size()) == 0) {
      const std::int32_t* first = ids_.data() + slot.ids;
      out.insert(out.end(), first, first + slot.count);
      return true;
    }
  }
}

void WordCache::insert(std::string_view word, std::uint64_t hash, const std::int32_t* ids,
                       std::size_t count) {
  if (word.empty() || word.size() > kLongestWord) return;
  if (words_ == kMostWords) clear();
  std::size_t i = hash & (kCacheSlots - 1);
  while (slots_[i].length != 0) i = (i + 1) & (kCacheSlots - 1);
  slots_[i] = {hash, static_cast<std::uint32_t>(texts_.size()),
               static_cast<std::uint32_t>(ids_.size()), static_cast<std::uint16_t>(word.size()),
               static_cast<std::uint16_t>(count)};
  texts_.insert(texts_.end(), word.begin(), word.end());
  ids_.insert(ids_.end(), ids, ids + count);
  ++words_;
}

void WordCache::clear() {
  std::fill(slots_.begin(), slots_.end(), Slot{});
  texts_.clear();
  ids_.clear();
  words_ = 0;
}

}  // namespace qgrpo::tokenizer
