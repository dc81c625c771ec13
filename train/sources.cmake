# One folder a concern; docs/architecture.md says which may use which.
foreach(part data reward objective optim options run eval grpo sft demo)
  file(GLOB part_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/train/${part}/*.cpp)
  target_sources(qgrpo_train PRIVATE ${part_sources})
endforeach()

include(QgrpoEmbed)
qgrpo_embed(qgrpo_train train/reward/qgrpo_reward_host.py reward_host_script)
qgrpo_embed(qgrpo_train train/run/qgrpo_wandb_bridge.py wandb_bridge)

# The version and commit, looked up at each build.
set(version_header ${CMAKE_BINARY_DIR}/generated/qgrpo_build_version.h)
add_custom_target(qgrpo_version
  COMMAND ${CMAKE_COMMAND} -D SOURCE=${CMAKE_SOURCE_DIR} -D OUTPUT=${version_header} -D VERSION=${PROJECT_VERSION}
    -P ${CMAKE_SOURCE_DIR}/cmake/QgrpoVersion.cmake
  BYPRODUCTS ${version_header} COMMENT "" VERBATIM)
add_dependencies(qgrpo_train qgrpo_version)
target_include_directories(qgrpo_train PRIVATE ${CMAKE_BINARY_DIR}/generated)
