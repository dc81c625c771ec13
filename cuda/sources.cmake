# The kernels, compiled by nvcc; and the runtime for the host's side. cuBLASLt is opened at run time
# (cuda/gemm.cpp).
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cuda/kernels/*.cu)
target_sources(qgrpo_cuda PRIVATE ${kernel_sources})
target_link_libraries(qgrpo_cuda PRIVATE qgrpo_cuda_options ${CMAKE_DL_LIBS})
