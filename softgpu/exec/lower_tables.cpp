#include "softgpu/exec/lower_tables.h"

namespace softgpu {

using ptx::Instruction;
using ptx::Opcode;
using ptx::Type;

bool is_control(Opcode op) {
  switch (op) {
    case Opcode::bra:
    case Opcode::brx_idx:
    case Opcode::call:
    case Opcode::ret:
    case Opcode::exit:
    case Opcode::trap:
    case Opcode::unsupported:
    case Opcode::bar_sync:
    case Opcode::bar_arrive:
    case Opcode::bar_red_popc:
    case Opcode::bar_red_and:
    case Opcode::bar_red_or:
    case Opcode::bar_warp_sync:
      return true;
    default:
      return false;
  }
}

Control control_of(Opcode op) {
  switch (op) {
    case Opcode::bra:
      return Control::bra;
    case Opcode::brx_idx:
      return Control::brx;
    case Opcode::call:
      return Control::call;
    case Opcode::ret:
      return Control::ret;
    case Opcode::exit:
      return Control::exit;
    case Opcode::trap:
      return Control::trap;
    case Opcode::bar_sync:
      return Control::bar_sync;
    case Opcode::bar_arrive:
      return Control::bar_arrive;
    case Opcode::bar_red_popc:
      return Control::bar_red_popc;
    case Opcode::bar_red_and:
      return Control::bar_red_and;
    case Opcode::bar_red_or:
      return Control::bar_red_or;
    case Opcode::bar_warp_sync:
      return Control::bar_warp_sync;
    default:
      return Control::unsupported;
  }
}

bool is_nop(Opcode op) {
  switch (op) {
    case Opcode::nop:
    case Opcode::brkpt:
    case Opcode::prefetch:
    case Opcode::discard:
    case Opcode::applypriority:
    case Opcode::fence:
    case Opcode::griddepcontrol:
    case Opcode::nanosleep:
      return true;
    default:
      return false;
  }
}

int immediate_width(const Instruction& in, int i) {
  const auto slots = [](Type type) { return ptx::bits_of(type) == 64 ? 2 : 1; };
  switch (in.op) {
    case Opcode::mad_wide:
      return i == 2 ? (ptx::bits_of(in.type) == 32 ? 2 : 1) : slots(in.type);
    case Opcode::shl:
    case Opcode::shr:
      return i == 0 ? slots(in.type) : 1;
    case Opcode::bfe:
      return i == 0 ? slots(in.type) : 1;
    case Opcode::bfi:
      return i < 2 ? slots(in.type) : 1;
    case Opcode::slct:
      return i == 2 ? 1 : slots(in.type);
    case Opcode::set:
    case Opcode::cvt:
      return slots(in.type_a);
    case Opcode::vote_all:
    case Opcode::vote_any:
    case Opcode::vote_uni:
    case Opcode::vote_ballot:
    case Opcode::bar_sync:
    case Opcode::bar_arrive:
    case Opcode::bar_red_popc:
    case Opcode::bar_red_and:
    case Opcode::bar_red_or:
    case Opcode::bar_warp_sync:
    case Opcode::fns:
      return 1;
    case Opcode::match_any:
    case Opcode::match_all:
      return i == 0 ? slots(in.type) : 1;
    default:
      return slots(in.type);
  }
}

}  // namespace softgpu
