# cmake -D SOURCE=<dir> -D OUTPUT=<header> -D VERSION=<x.y.z> -P QgrpoVersion.cmake
#
# Writes what this build is made of: the project's version and `git describe`, so that a run's record names the
# code it was made with. The header changes only when they do.
set(describe unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty --tags
    OUTPUT_VARIABLE text OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(describe ${text})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
#define QGRPO_BUILD_VERSION "@VERSION@"
#define QGRPO_BUILD_GIT "@describe@"
#define QGRPO_BUILD_ID "@VERSION@ (@describe@)"
]])
