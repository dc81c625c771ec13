# The plain operators, as a backend.
target_sources(qgrpo_cpu PRIVATE ${CMAKE_SOURCE_DIR}/cpu/reference/backend.cpp)
# What the machine can do.
target_sources(qgrpo_cpu PRIVATE ${CMAKE_SOURCE_DIR}/cpu/machine/peak.cpp)
# Every file in cpu/kernels is compiled once per instruction set, into the namespace named by QGRPO_ISA;
# cpu/dispatch.cpp picks one at start. Each on its own, so that inlining is what was measured.
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cpu/kernels/*.cpp)
set(isa_avx2_flags -mavx2 -mfma -mf16c -mbmi2)
set(isa_avx512_flags -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mf16c -mbmi2)
foreach(isa avx2 avx512)
  if(kernel_sources)
    add_library(qgrpo_cpu_${isa} OBJECT ${kernel_sources})
    target_compile_options(qgrpo_cpu_${isa} PRIVATE ${isa_${isa}_flags} -O3)
    target_compile_definitions(qgrpo_cpu_${isa} PRIVATE QGRPO_ISA=${isa})
    target_link_libraries(qgrpo_cpu_${isa} PRIVATE qgrpo_options qgrpo_ops)
    target_include_directories(qgrpo_cpu_${isa} PRIVATE ${CMAKE_BINARY_DIR}/include/qgrpo_cpu)
    target_sources(qgrpo_cpu PRIVATE $<TARGET_OBJECTS:qgrpo_cpu_${isa}>)
  endif()
endforeach()
