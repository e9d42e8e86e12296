# Finds the system's sentencepiece by its files; Ubuntu 24.04's pkg-config file asks for protobuf's headers.
#
# Defines the target SentencePiece::SentencePiece (processor and trainer).
find_path(SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_PROCESSOR sentencepiece REQUIRED)
find_library(SENTENCEPIECE_TRAINER sentencepiece_train REQUIRED)

add_library(SentencePiece::SentencePiece INTERFACE IMPORTED)
target_include_directories(SentencePiece::SentencePiece SYSTEM INTERFACE ${SENTENCEPIECE_INCLUDE})
target_link_libraries(SentencePiece::SentencePiece INTERFACE
  ${SENTENCEPIECE_TRAINER} ${SENTENCEPIECE_PROCESSOR})
