# qgrpo_embed(<target> <file> <name>)
#
# Puts a text file into the program: <target> gets a source that defines
#   extern const std::string_view qgrpo::embedded::<name>
# with the file's text. A change of the file configures anew.
function(qgrpo_embed target file name)
  set(path ${CMAKE_SOURCE_DIR}/${file})
  file(READ ${path} text)
  string(FIND "${text}" ")qgrpo_text\"" end)
  if(NOT end EQUAL -1)
    message(FATAL_ERROR "${file}: has the mark that would end its text in the program")
  endif()
  set(output ${CMAKE_BINARY_DIR}/embedded/${name}.cpp)
  file(CONFIGURE OUTPUT ${output} @ONLY CONTENT [[
#include <string_view>

namespace qgrpo::embedded {
extern const std::string_view @name@;
const std::string_view @name@ = R"qgrpo_text(@text@)qgrpo_text";
}  // namespace qgrpo::embedded
]])
  target_sources(${target} PRIVATE ${output})
  set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
endfunction()
