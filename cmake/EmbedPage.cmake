# Writes OUTPUT, a source file with the files of the page in FOLDER as page_files():
#   cmake -DFOLDER=src/server/page -DOUTPUT=page_files.cpp -P cmake/EmbedPage.cmake
# Their bytes become numbers, because a compiler may refuse long texts.
get_filename_component(FOLDER "${FOLDER}" ABSOLUTE)
set(types_html text/html)
set(types_css text/css)
set(types_js text/javascript)
set(types_svg image/svg+xml)
set(arrays "")
set(entries "")
file(GLOB files LIST_DIRECTORIES false RELATIVE ${FOLDER} ${FOLDER}/*)
foreach(name IN LISTS files)
  string(REGEX REPLACE ".*[.]" "" ending "${name}")
  if(NOT DEFINED types_${ending})
    message(FATAL_ERROR "${FOLDER}/${name}: expected .html, .css, .js or .svg")
  endif()
  string(REPLACE "index.html" "" path "${name}")
  string(MAKE_C_IDENTIFIER "k_${name}" array)
  file(READ "${FOLDER}/${name}" bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${bytes}")
  string(APPEND arrays "constexpr char ${array}[] = {${bytes}};\n")
  string(APPEND entries
         "    {\"/${path}\", \"${types_${ending}}; charset=utf-8\", {${array}, sizeof ${array}}},\n")
endforeach()
file(WRITE "${OUTPUT}" "#include \"server/page_files.h\"

namespace ospnext {
namespace {

${arrays}
constexpr PageFile kFiles[] = {
${entries}};

}  // namespace

std::span<const PageFile> page_files() {
  return kFiles;
}

}  // namespace ospnext
")
