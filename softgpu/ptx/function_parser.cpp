#include <algorithm>

#include "softgpu/ptx/body_parser.h"
#include "softgpu/ptx/builder.h"

namespace softgpu::ptx {
namespace {

Builtin builtin_named(std::string_view name) {
  if (name == "vprintf") return Builtin::vprintf;
  if (name == "__assertfail") return Builtin::assertfail;
  if (name == "malloc") return Builtin::malloc;
  if (name == "free") return Builtin::free;
  return Builtin::unknown;
}

// (.param .type name, ...)
std::vector<Parameter> parse_parameters(Cursor& cursor, BodyParser& body, Space space) {
  std::vector<Parameter> parameters;
  cursor.expect('(');
  while (!cursor.accept(')')) {
    if (!cursor.accept_word("param"))
      cursor.fail_here("'{}': only .param parameters are supported", cursor.peek().text);
    parameters.push_back(body.add_parameter(read_declaration(cursor), space));
    cursor.accept(',');
  }
  return parameters;
}

// x [, y [, z]]
void parse_extent(Cursor& cursor, std::uint32_t (&extent)[3]) {
  for (std::uint32_t& size : extent) size = 1;
  for (std::uint32_t& size : extent) {
    size = read_number(cursor);
    if (!cursor.accept(',')) break;
  }
}

// The directives between the parameters and the body.
void parse_tuning(Cursor& cursor, Function& function) {
  while (cursor.peek().kind == TokenKind::word) {
    const std::string_view word = cursor.expect_word();
    if (word == "maxntid") {
      parse_extent(cursor, function.max_threads);
    } else if (word == "reqntid") {
      parse_extent(cursor, function.required_threads);
    } else if (word == "minnctapersm" || word == "maxnctapersm") {
      function.min_blocks_per_sm = read_number(cursor);
    } else if (word == "maxnreg") {
      function.max_registers = read_number(cursor);
    } else if (word == "pragma") {
      cursor.skip_past(';');
    } else if (word != "noreturn") {
      cursor.fail_here("'.{}' at a function is not supported", word);
    }
  }
}

}  // namespace

void parse_function(Cursor& cursor, Builder& builder, bool is_kernel) {
  Function function;
  function.is_kernel = is_kernel;
  // The name stands after the results, whose declarations need the function's scope already.
  std::size_t ahead = 0;
  if (cursor.peek().is('('))
    while (!cursor.peek(ahead).is(')') && cursor.peek(ahead).kind != TokenKind::end) ++ahead;
  const Token& name = cursor.peek(ahead == 0 ? 0 : ahead + 1);
  const std::uint32_t index = builder.function_named(name.text);
  function.name = name.text;

  BodyParser body(cursor, builder, function, index);
  if (cursor.peek().is('(')) function.results = parse_parameters(cursor, body, Space::frame_param);
  cursor.expect_name();
  if (cursor.peek().is('('))
    function.params =
        parse_parameters(cursor, body, is_kernel ? Space::kernel_param : Space::frame_param);
  parse_tuning(cursor, function);

  if (cursor.accept(';')) {  // a declaration, perhaps of what is defined already
    function.builtin = builtin_named(function.name);
    Function& known = builder.module.functions[index];
    if (known.instructions.empty()) known = std::move(function);
    return;
  }
  cursor.expect('{');
  body.parse();
  find_blocks(function);
  allocate_registers(function, body.register_bits());
  if (!builder.module.functions[index].instructions.empty())
    cursor.fail_here("function '{}' is defined twice", function.name);
  builder.module.functions[index] = std::move(function);
}

}  // namespace softgpu::ptx
