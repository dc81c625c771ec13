# qgrpo_library(<name> FOLDER <dir> [COLD | PIC] [LINK <public libraries>] [PRIVATE <private libraries>])
#
# Makes the static library qgrpo_<name> from <dir>/*.cpp (not its subfolders, except <dir>/avx2 etc. named by
# the folder's own sources.cmake). Headers are included by their path from the root of the tree
# ("tokenizer/bpe.h"), but the root itself is on nobody's include path: every library gets a folder of
# its own in the build tree that holds one link to its sources, and a target sees the folders of exactly
# the libraries it links. An include against the declared direction does not compile.
# COLD: its code runs seldom or waits for others: -O1, which compiles in less time.
# PIC: its code is also a part of a shared library, the CUDA backend's.

add_library(qgrpo_options INTERFACE)
target_compile_features(qgrpo_options INTERFACE cxx_std_20)
# Floating-point results are part of the contract: a product and a sum are fused only where the source says fma.
target_compile_options(qgrpo_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
option(QGRPO_UNITY "Compile up to 12 sources of a library at once" OFF)
if(NOT QGRPO_UNITY) # there a local name of one source may be hidden in another
  target_compile_options(qgrpo_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor>)
  # g++ 12 finds overlaps in "text" + std::string (its bug 105651).
  target_compile_options(qgrpo_options INTERFACE
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict>)
endif()
if(QGRPO_WERROR)
  target_compile_options(qgrpo_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(QGRPO_SANITIZE)
  target_compile_options(qgrpo_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${QGRPO_SANITIZE} -fno-omit-frame-pointer>)
  if(QGRPO_SANITIZE MATCHES "undefined")
    target_compile_options(qgrpo_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined>)
  endif()
  target_link_options(qgrpo_options INTERFACE -fsanitize=${QGRPO_SANITIZE})
endif()
if(QGRPO_FUZZ) # tests/fuzz: libFuzzer, which is clang's
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "QGRPO_FUZZ=ON: ${CMAKE_CXX_COMPILER_ID} has no libFuzzer; use tools/fuzz or the preset fuzz")
  endif()
  target_compile_options(qgrpo_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow
      -fno-sanitize-recover=undefined,float-cast-overflow
      -fno-omit-frame-pointer>)
  # The usual name of what such a build leaves out: long work within its limits, which finds nothing.
  target_compile_definitions(qgrpo_options INTERFACE FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
endif()

# What nearly every source reads of the standard library and fmt, parsed once: half the time of a build. One
# for each set of options, as compilers want it. Sources include what they use all the same, and
# -DQGRPO_PRECOMPILED=OFF shows that they do.
option(QGRPO_PRECOMPILED "Precompile the standard headers" ON)
set(QGRPO_PRECOMPILED_HEADERS <algorithm> <array> <atomic> <bit> <charconv> <chrono> <cmath> <cstdint> <cstdio>
  <cstdlib> <cstring> <deque> <filesystem> <fstream> <functional> <iostream> <limits> <map> <memory> <mutex>
  <numeric> <optional> <set> <span> <string> <string_view> <thread> <unordered_map> <utility> <vector>
  <fmt/format.h>)

# qgrpo_precompile(<target> <set>): <target> reads the headers that are precompiled for <set> (hot, cold, pic or
# test), which are made with the first target that asks for them.
function(qgrpo_precompile target set)
  qgrpo_set_options(${target} ${set})
  if(NOT QGRPO_PRECOMPILED)
    return()
  endif()
  if(NOT TARGET qgrpo_precompiled_${set})
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/precompiled_${set}.cpp CONTENT "")
    add_library(qgrpo_precompiled_${set} OBJECT ${CMAKE_BINARY_DIR}/generated/precompiled_${set}.cpp)
    target_link_libraries(qgrpo_precompiled_${set} PRIVATE qgrpo_options fmt::fmt)
    set(headers ${QGRPO_PRECOMPILED_HEADERS})
    if(set STREQUAL "test")
      target_link_libraries(qgrpo_precompiled_test PRIVATE doctest::doctest)
      list(APPEND headers <doctest/doctest.h>)
    endif()
    qgrpo_set_options(qgrpo_precompiled_${set} ${set})
    target_precompile_headers(qgrpo_precompiled_${set} PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM qgrpo_precompiled_${set})
endfunction()

# Cold code and tests are compiled for the compiler's speed, not theirs. In a shared library too, a function is the
# one that was compiled with its caller.
function(qgrpo_set_options target set)
  if(set STREQUAL "pic")
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fPIC -fno-semantic-interposition>)
  elseif(NOT set STREQUAL "hot")
    target_compile_options(${target} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O1>)
  endif()
endfunction()

# Many sources of a library in one compilation: what they share is read and instantiated once, which takes
# another half of a build's time. For who builds the program and changes nothing; names that are local to a source
# must then differ within the library.
function(qgrpo_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${QGRPO_UNITY} UNITY_BUILD_BATCH_SIZE 12)
endfunction()

# Makes <dir> includable, by its path from the root, to the targets that link <target>.
function(qgrpo_include_root target dir)
  set(root ${CMAKE_BINARY_DIR}/include/${target})
  file(REMOVE_RECURSE ${root}) # where the folder was another one before
  cmake_path(GET dir PARENT_PATH parent)
  file(MAKE_DIRECTORY ${root}/${parent})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${dir} ${root}/${dir} SYMBOLIC)
  target_include_directories(${target} PUBLIC ${root})
endfunction()

function(qgrpo_library name)
  cmake_parse_arguments(ARG "COLD;PIC" "FOLDER" "LINK;PRIVATE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/*.cpp)
  add_library(qgrpo_${name} STATIC)
  target_sources(qgrpo_${name} PRIVATE ${sources})
  target_link_libraries(qgrpo_${name} PUBLIC qgrpo_options ${ARG_LINK} PRIVATE ${ARG_PRIVATE})
  qgrpo_include_root(qgrpo_${name} ${ARG_FOLDER})
  if(NOT ARG_PIC) # the CUDA backend's sources have names of their own: Operands, Chunk
    qgrpo_unity(qgrpo_${name})
  endif()
  if(ARG_COLD)
    qgrpo_precompile(qgrpo_${name} cold)
  elseif(ARG_PIC)
    qgrpo_precompile(qgrpo_${name} pic)
  else()
    qgrpo_precompile(qgrpo_${name} hot)
  endif()
  if(EXISTS ${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/sources.cmake)
    include(${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/sources.cmake)
  endif()
endfunction()
