# The readers of other checkpoint formats are part of the model library.
file(GLOB formats CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/model/formats/*.cpp)
target_sources(qgrpo_model PRIVATE ${formats})
