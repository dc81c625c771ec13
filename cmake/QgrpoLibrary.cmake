# qgrpo_library(<name> FOLDER <dir> [LINK <public libraries>] [PRIVATE <private libraries>])
#
# Makes the static library qgrpo_<name> from <dir>/*.cpp (not its subfolders, except <dir>/avx2 etc. named by
# the folder's own sources.cmake). Headers are included by their path from the root of the tree
# ("tokenizer/bpe.h"), but the root itself is on nobody's include path: every library gets a folder of
# its own in the build tree that holds one link to its sources, and a target sees the folders of exactly
# the libraries it links. An include against the declared direction does not compile.

add_library(qgrpo_options INTERFACE)
target_compile_features(qgrpo_options INTERFACE cxx_std_20)
# Floating-point results are part of the contract: a product and a sum are fused only where the source says fma.
target_compile_options(qgrpo_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror -ffp-contract=off>)
if(QGRPO_SANITIZE)
  target_compile_options(qgrpo_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-sanitize-recover=undefined
      -fno-omit-frame-pointer>)
  target_link_options(qgrpo_options INTERFACE -fsanitize=address,undefined)
endif()

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
  cmake_parse_arguments(ARG "" "FOLDER" "LINK;PRIVATE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/*.cpp)
  add_library(qgrpo_${name} STATIC)
  target_sources(qgrpo_${name} PRIVATE ${sources})
  target_link_libraries(qgrpo_${name} PUBLIC qgrpo_options ${ARG_LINK} PRIVATE ${ARG_PRIVATE})
  qgrpo_include_root(qgrpo_${name} ${ARG_FOLDER})
  if(EXISTS ${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/sources.cmake)
    include(${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/sources.cmake)
  endif()
endfunction()
