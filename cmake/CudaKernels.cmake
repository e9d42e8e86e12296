# Makes nvcc ready for the project's own CUDA kernels: the toolkit's, or the one that tools/setup.sh fetched.
find_program(OSPNEXT_NVCC nvcc
             HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin "${CMAKE_SOURCE_DIR}/.deps/nvcc/nvidia/cu13/bin"
             DOC "CUDA 13 compiler")
if(NOT OSPNEXT_NVCC)
  message(FATAL_ERROR "nvcc was not found on PATH, under CUDA_HOME, in /usr/local/cuda or in .deps/nvcc; run "
                      "`make setup CUDA=1`, or pass -DOSPNEXT_NVCC=/path/to/nvcc")
endif()
set(CMAKE_CUDA_COMPILER "${OSPNEXT_NVCC}")
set(CMAKE_CUDA_ARCHITECTURES 80-virtual 90a-real)  # Hopper; other GPUs compile it when they load it
set(CMAKE_CUDA_RUNTIME_LIBRARY None)               # LibTorch brings it
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_EXTENSIONS OFF)
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")  # CMake 3.25 does not know it of nvcc 13
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
