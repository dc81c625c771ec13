# The kernels, compiled by nvcc; and the runtime for the host's side. cuBLASLt is opened at run time
# (cuda/gemm.cpp).
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cuda/kernels/*.cu)
target_sources(qgrpo_cuda PRIVATE ${kernel_sources})
target_link_libraries(qgrpo_cuda PUBLIC qgrpo_cudart PRIVATE qgrpo_cuda_options ${CMAKE_DL_LIBS})
# Host-only sizes are a library of their own, which is there without a toolkit too.
get_target_property(cuda_host_sources qgrpo_cuda SOURCES)
list(FILTER cuda_host_sources EXCLUDE REGEX "/sizes\\.cpp$")
set_target_properties(qgrpo_cuda PROPERTIES SOURCES "${cuda_host_sources}")
target_link_libraries(qgrpo_cuda PUBLIC qgrpo_cuda_sizes)
