# Finds the LibTorch of PyPI's torch wheel without CMake's Torch package, which needs a CUDA toolkit.
#
#   LIBTORCH              folder `torch/` of an unpacked or installed wheel (include/ and lib/ inside)
#   OSPNEXT_CUDA          also link the CUDA half (torch_cuda, c10_cuda)
#   OSPNEXT_CUDA_INCLUDE  folder with cuda_runtime_api.h, cublas_v2.h, cusparse.h (found by itself)
#   OSPNEXT_NCCL_INCLUDE  folder with nccl.h (found by itself)
# Defines the target LibTorch::LibTorch.
if(NOT EXISTS "${LIBTORCH}/include/torch/csrc/api/include/torch/torch.h")
  message(FATAL_ERROR "LIBTORCH is '${LIBTORCH}', which holds no include/torch/csrc/api/include/torch/torch.h; "
                      "run `make setup`, or pass -DLIBTORCH=/path/to/site-packages/torch")
endif()

# libtorch.so itself is empty and asks for the CUDA half, so it is left out.
set(libtorch_names torch_cpu c10)
if(OSPNEXT_CUDA)
  list(APPEND libtorch_names torch_cuda c10_cuda)
endif()
set(libtorch_files)
foreach(name IN LISTS libtorch_names)
  if(NOT EXISTS "${LIBTORCH}/lib/lib${name}.so")
    message(FATAL_ERROR "LIBTORCH is '${LIBTORCH}', which holds no lib/lib${name}.so")
  endif()
  list(APPEND libtorch_files "${LIBTORCH}/lib/lib${name}.so")
endforeach()

add_library(LibTorch::LibTorch INTERFACE IMPORTED)
target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
  "${LIBTORCH}/include" "${LIBTORCH}/include/torch/csrc/api/include")
# torch_cuda registers itself when loaded, so the linker must keep it although no symbol asks for it.
# What these libraries need themselves (CUDA, cuDNN, NCCL) is looked up when the program runs.
target_link_libraries(LibTorch::LibTorch INTERFACE
  -Wl,--no-as-needed ${libtorch_files} -Wl,--as-needed pthread)
target_link_options(LibTorch::LibTorch INTERFACE LINKER:--unresolved-symbols=ignore-in-shared-libs)
# at::parallel_for is a template: in code compiled without OpenMP it would quietly use one thread. The OpenMP
# library is LibTorch's own, so that there is one pool of threads.
file(GLOB libtorch_openmp "${LIBTORCH}/lib/libgomp*.so*")
if(NOT libtorch_openmp)
  message(FATAL_ERROR "LIBTORCH is '${LIBTORCH}', which holds no lib/libgomp*.so*")
endif()
target_compile_options(LibTorch::LibTorch INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-fopenmp>")
target_link_libraries(LibTorch::LibTorch INTERFACE ${libtorch_openmp})
if(OSPNEXT_CUDA)
  find_path(OSPNEXT_CUDA_INCLUDE cusparse.h
            HINTS "${LIBTORCH}/../nvidia/cu13/include" $ENV{CUDA_HOME}/include /usr/local/cuda/include
            DOC "folder of the CUDA headers" REQUIRED)
  find_path(OSPNEXT_NCCL_INCLUDE nccl.h
            HINTS "${LIBTORCH}/../nvidia/nccl/include" $ENV{NCCL_HOME}/include
            DOC "folder of NCCL's header" REQUIRED)
  find_library(OSPNEXT_CUDART NAMES libcudart.so.13
               HINTS "${LIBTORCH}/../nvidia/cu13/lib" $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64
               DOC "the CUDA 13 runtime" REQUIRED)
  find_library(OSPNEXT_CUBLASLT NAMES libcublasLt.so.13
               HINTS "${LIBTORCH}/../nvidia/cu13/lib" $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64
               DOC "CUDA's matrix products" REQUIRED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE "${OSPNEXT_CUDA_INCLUDE}" "${OSPNEXT_NCCL_INCLUDE}")
  target_link_libraries(LibTorch::LibTorch INTERFACE "${OSPNEXT_CUDART}" "${OSPNEXT_CUBLASLT}")
  target_compile_definitions(LibTorch::LibTorch INTERFACE OSPNEXT_CUDA)
endif()
