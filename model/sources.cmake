# The families and the readers of other checkpoint formats are part of the model library.
file(GLOB nested CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/model/family/*.cpp
     ${CMAKE_SOURCE_DIR}/model/formats/*.cpp)
target_sources(qgrpo_model PRIVATE ${nested})
