# Enables the CUDA language where a toolkit is found; sets QGRPO_HAS_CUDA. QGRPO_CUDA=OFF looks for none, ON
# fails without one.
#
# The toolkit: CMAKE_CUDA_COMPILER or CUDACXX, CUDA_HOME, nvcc on the path, /usr/local/cuda, or what
# tools/setup put into .cache/cuda; 12.4 or later. A compiled program links the shared runtime and embeds
# uncompressed PTX of compute_80 beside the code for real devices: the software GPU (softgpu) takes the
# runtime's place by the library path and runs that PTX.

set(QGRPO_HAS_CUDA OFF)
option(QGRPO_RELEASE_ARCHITECTURES "Also compile for sm_86, sm_90, sm_100 and sm_120 (the last two from CUDA 12.8 on)" OFF)

if(NOT QGRPO_CUDA STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(QGRPO_NVCC nvcc PATHS ENV CUDA_HOME PATH_SUFFIXES bin NO_DEFAULT_PATH)
    find_program(QGRPO_NVCC nvcc PATHS /usr/local/cuda/bin ${CMAKE_SOURCE_DIR}/.cache/cuda/bin)
    if(QGRPO_NVCC)
      set(CMAKE_CUDA_COMPILER ${QGRPO_NVCC})
    endif()
  endif()
  # The PTX that every device understands, and the code of the devices that the kernels are written for.
  # QGRPO_CUDA_ARCHITECTURES=80-virtual: PTX alone, all that the software GPU needs, in a third of the time.
  set(QGRPO_CUDA_ARCHITECTURES 80-virtual 80-real 89-real CACHE STRING "What nvcc compiles for")
  set(CMAKE_CUDA_ARCHITECTURES ${QGRPO_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  if(CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX})
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.4)
      set(QGRPO_HAS_CUDA ON)
    elseif(QGRPO_CUDA STREQUAL "ON")
      message(FATAL_ERROR "QGRPO_CUDA=ON: ${CMAKE_CUDA_COMPILER} is ${CMAKE_CUDA_COMPILER_VERSION}, "
                          "12.4 or later is needed")
    else()
      message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.4: the program gets no CUDA backend")
    endif()
  elseif(QGRPO_CUDA STREQUAL "ON")
    message(FATAL_ERROR "QGRPO_CUDA=ON: no nvcc; run tools/setup, or set CMAKE_CUDA_COMPILER")
  else()
    message(STATUS "No nvcc: the program gets no CUDA backend")
  endif()
endif()

if(QGRPO_HAS_CUDA)
  set(CMAKE_CUDA_STANDARD 17) # what CMake 3.25 can ask nvcc for; the kernels need no more
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  if(QGRPO_RELEASE_ARCHITECTURES)
    list(APPEND CMAKE_CUDA_ARCHITECTURES 86-real 90-real)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
      list(APPEND CMAKE_CUDA_ARCHITECTURES 100-real 120-real)
    endif()
  endif()
  # The shared runtime beside this nvcc. (CMake 3.25's FindCUDAToolkit stops on a toolkit without nvToolsExt.)
  find_path(QGRPO_CUDA_INCLUDE cuda_runtime_api.h HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}
            NO_DEFAULT_PATH REQUIRED)
  find_library(QGRPO_CUDART cudart HINTS ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES}
               ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} NO_DEFAULT_PATH REQUIRED)
  add_library(qgrpo_cudart SHARED IMPORTED)
  set_target_properties(qgrpo_cudart PROPERTIES IMPORTED_LOCATION ${QGRPO_CUDART}
                        INTERFACE_INCLUDE_DIRECTORIES ${QGRPO_CUDA_INCLUDE})
  add_library(qgrpo_cuda_options INTERFACE)
  # -Wpedantic is not for the line markers that nvcc gives the host compiler.
  target_compile_options(qgrpo_cuda_options INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:--no-compress -lineinfo -Xcompiler=-Wall,-Wextra,-Wshadow,-Wnon-virtual-dtor>)
  if(QGRPO_WERROR)
    target_compile_options(qgrpo_cuda_options INTERFACE
      $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Werror>)
  endif()
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: ${CMAKE_CUDA_COMPILER}")
  if(DEFINED ENV{CUDA_HOME} AND EXISTS $ENV{CUDA_HOME}/bin/nvcc)
    file(REAL_PATH $ENV{CUDA_HOME}/bin/nvcc asked)
    file(REAL_PATH ${CMAKE_CUDA_COMPILER} used)
    if(NOT asked STREQUAL used)
      message(WARNING "CUDA_HOME names another toolkit ($ENV{CUDA_HOME}) than this folder was configured with; "
                      "tools/build, or cmake in an empty folder, takes it")
    endif()
  endif()
endif()
