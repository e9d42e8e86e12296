# Finds the LibTorch of PyPI's torch wheel without CMake's Torch package, which needs a CUDA toolkit.
#
#   LIBTORCH          folder `torch/` of an unpacked or installed wheel (include/ and lib/ inside)
#   OSPNEXT_CUDA      also link the CUDA half (torch_cuda, c10_cuda)
# Defines the target LibTorch::LibTorch.
find_path(LIBTORCH_INCLUDE torch/csrc/api/include/torch/torch.h
          HINTS ${LIBTORCH}/include NO_DEFAULT_PATH REQUIRED)
set(libtorch_names torch torch_cpu c10)
if(OSPNEXT_CUDA)
  list(APPEND libtorch_names torch_cuda c10_cuda)
endif()

add_library(LibTorch::LibTorch INTERFACE IMPORTED)
target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
  ${LIBTORCH_INCLUDE} ${LIBTORCH_INCLUDE}/torch/csrc/api/include)
target_link_directories(LibTorch::LibTorch INTERFACE ${LIBTORCH}/lib)
foreach(name IN LISTS libtorch_names)
  find_library(LIBTORCH_${name} ${name} HINTS ${LIBTORCH}/lib NO_DEFAULT_PATH REQUIRED)
  list(APPEND libtorch_files ${LIBTORCH_${name}})
endforeach()

# torch_cuda registers itself when loaded, so the linker must keep it although no symbol asks for it.
# The wheel's own dependencies (CUDA libraries) are found beside it when the program runs.
target_link_libraries(LibTorch::LibTorch INTERFACE
  -Wl,--no-as-needed ${libtorch_files} -Wl,--as-needed -Wl,--allow-shlib-undefined pthread)
target_link_options(LibTorch::LibTorch INTERFACE
  "LINKER:-rpath,${LIBTORCH}/lib" "LINKER:-rpath,${LIBTORCH}/../nvidia/cu13/lib")
if(OSPNEXT_CUDA AND EXISTS "${CUDAToolkit_INCLUDE}")
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE})
endif()
