# The interpreter's loops over 32 lanes want AVX2. No contraction: a mul and an add are two roundings.
# Registers are read as 32 and as 64 bits: no strict aliasing.
file(GLOB exec_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/exec/*.cpp)
set_source_files_properties(${exec_sources} PROPERTIES COMPILE_OPTIONS
  "-O3;-mavx2;-mf16c;-mfma;-ffp-contract=off;-fno-math-errno;-fno-trapping-math;-fno-strict-aliasing")
