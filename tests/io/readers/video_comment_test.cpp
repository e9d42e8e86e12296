// Comments in hand-made video files. tests/io/video_test.cpp reads files of the real writers.
#include "io/readers/video_comment.h"

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

class VideoComment : public ReaderTest {
 protected:
  std::string read(const std::string& bytes) const {
    return read_video_comment(write("file", bytes));
  }
  void expect_damaged(const std::string& bytes, const std::string& what) const {
    expect_refused([&] { read(bytes); }, folder_ / "file", what);
  }
};

std::string be(uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes; i-- > 0;) {
    text += static_cast<char>(value >> (8 * i) & 0xff);
  }
  return text;
}

std::string le(uint64_t value, int bytes) {
  const std::string text = be(value, bytes);
  return {text.rbegin(), text.rend()};
}

std::string box(const std::string& type, const std::string& content) {
  return be(content.size() + 8, 4) + type + content;
}

const std::string kFtyp = box("ftyp", "isom");

TEST_F(VideoComment, OfMp4IsFoundAmongOtherBoxes) {
  const std::string data = box("data", be(1, 4) + be(0, 4) + "hello");
  const std::string list = box("ilst", box("\xa9too", data) + box("\xa9"
                                                                  "cmt",
                                                                  data));
  const std::string moov =
      box("moov", box("mvhd", "12") + box("udta", box("meta", be(0, 4) + box("hdlr", "") + list)));
  EXPECT_EQ(read(kFtyp + box("mdat", "xyz") + moov), "hello");
  EXPECT_EQ(read(kFtyp + box("mdat", "xyz")), "");
  const std::string large = be(1, 4) + "mdat" + be(16 + 3, 8) + "xyz";
  EXPECT_EQ(read(kFtyp + large + moov), "hello");
}

TEST_F(VideoComment, OfMp4WithImpossibleSizesIsRefused) {
  expect_damaged(kFtyp + be(7, 4) + "mdat", "impossible size");
  expect_damaged(kFtyp + be(1, 4) + "mdat" + be(15, 8), "impossible size");
  expect_damaged(kFtyp + be(1, 4) + "mdat" + be(UINT64_MAX, 8), "end too early");
  expect_damaged(kFtyp + be(100, 4) + "moov", "end too early");
}

std::string element(const std::string& id, const std::string& content) {
  return id + be(0x01ull << 56 | content.size(), 8) + content;
}

TEST_F(VideoComment, OfWebmIsFoundAmongOtherTags) {
  const std::string header = element("\x1a\x45\xdf\xa3", "webm");
  const auto tag = [](const std::string& name, const std::string& text) {
    return element("\x67\xc8", element("\x45\xa3", name) + element("\x44\x87", text));
  };
  const std::string tags =
      element("\x12\x54\xc3\x67", element("\x73\x73", tag("ENCODER", "x")) +
                                      element("\x73\x73", tag("COMMENT", "hello")));
  const std::string cluster = element("\x1f\x43\xb6\x75", "frames");
  EXPECT_EQ(read(header + element("\x18\x53\x80\x67", cluster + tags)), "hello");
  EXPECT_EQ(read(header + "\x18\x53\x80\x67" + be(0x01ffffffffffffffull, 8) + cluster + tags),
            "hello");
  EXPECT_EQ(read(header + element("\x18\x53\x80\x67", cluster)), "");
  expect_damaged(header + "\x18\x53\x80\x67" + be(0x01fffffffffffff0ull, 8), "end too early");
}

TEST_F(VideoComment, OfGifMayComeInSeveralBlocks) {
  const std::string head =
      "GIF89a" + le(2, 2) + le(2, 2) + '\x80' + std::string(2, '\0') + "rgbrgb";
  const std::string image = std::string("\x2c") + std::string(8, '\0') + '\x80' + "rgbrgb" +
                            "\x02" + "\x01z" + std::string(1, '\0');
  const std::string comment = std::string("\x21\xfe\x03hel\x02lo") + std::string(1, '\0');
  EXPECT_EQ(read(head + image + comment + "\x3b"), "hello");
  EXPECT_EQ(read(head + image + "\x3b"), "");
  expect_damaged(head + image + "\x07", "no known kind");
  expect_damaged(head + image, "end too early");
}

TEST_F(VideoComment, OfWebpAndPngIsFoundByItsName) {
  const std::string xmp = comment_to_xmp("a < b & \"c\"");
  const auto chunk = [](const std::string& name, const std::string& data) {
    return name + le(data.size(), 4) + data + std::string(data.size() % 2, '\0');
  };
  EXPECT_EQ(read("RIFF" + le(99, 4) + "WEBP" + chunk("ANMF", "abc") + chunk("XMP ", xmp)),
            "a < b & \"c\"");
  EXPECT_EQ(read("RIFF" + le(99, 4) + "WEBP" + chunk("XMP ", "no packet")), "");
  const auto png_chunk = [](const std::string& name, const std::string& data) {
    return be(data.size(), 4) + name + data + be(0, 4);
  };
  const std::string signature = "\x89PNG\r\n\x1a\n";
  const std::string text = "Comment" + std::string(5, '\0') + "hello";
  EXPECT_EQ(read(signature + png_chunk("IHDR", "x") + png_chunk("iTXt", "Other") +
                 png_chunk("iTXt", text)),
            "hello");
  EXPECT_EQ(read(signature + png_chunk("IHDR", "x")), "");
  expect_damaged(signature + be(0xffffffff, 4) + "IHDR", "end too early");
}

TEST_F(VideoComment, OfOtherFilesIsRefused) {
  expect_damaged("YUV4MPEG2 W4 H4", ".y4m, which keeps no comment");
  expect_damaged("hello", "found \"hello\"");
}

}  // namespace
}  // namespace ospnext
