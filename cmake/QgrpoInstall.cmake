# cmake --install BUILD --prefix P: what runs from P, wherever P is moved to.
#
#   P/bin/qgrpo                      the program; it finds the rest by its own place
#   P/lib/qgrpo/libqgrpo_cuda.so     the CUDA backend, where it was built; tools/package adds the libraries
#                                    that Debian's base system lacks
#   P/share/doc/qgrpo, P/share/qgrpo/examples

# DT_RPATH, not DT_RUNPATH: it counts for what the libraries in lib/qgrpo need themselves, too. (The CUDA backend
# has a DT_RUNPATH of its own: cuda/plugin/library.)
set_target_properties(qgrpo PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN/../lib/qgrpo"
                                       INSTALL_RPATH_USE_LINK_PATH ON)
target_link_options(qgrpo PRIVATE -Wl,--disable-new-dtags)

install(TARGETS qgrpo RUNTIME DESTINATION bin)
if(QGRPO_HAS_CUDA)
  install(TARGETS qgrpo_cuda_plugin LIBRARY DESTINATION lib/qgrpo)
endif()
install(FILES README.md LICENSE CHANGELOG.md DESTINATION share/doc/qgrpo)
install(DIRECTORY docs DESTINATION share/doc/qgrpo FILES_MATCHING PATTERN *.md)
install(DIRECTORY examples DESTINATION share/qgrpo USE_SOURCE_PERMISSIONS)
