# How the CUDA backend is made, and the major version of CUDA whose libraries it takes; 0: not at all.
set(major 0)
set(architectures "")
if(QGRPO_HAS_CUDA)
  string(REGEX MATCH "^[0-9]+" major ${CMAKE_CUDA_COMPILER_VERSION})
  string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
endif()
target_compile_definitions(qgrpo_cuda_load PRIVATE QGRPO_CUDA_MAJOR=${major}
  QGRPO_CUDA_TOOLKIT="${CMAKE_CUDA_COMPILER_VERSION}" QGRPO_CUDA_ARCHITECTURES="${architectures}")
