// What happens to a prompt before it is tokenised.
#pragma once

#include <string>
#include <string_view>

namespace ospnext {

// What Wan2.1 and OSP-Next guide away from when the user names nothing else.
// Source: Wan2.1 wan/configs/shared_config.py:sample_neg_prompt.
inline constexpr std::string_view kDefaultNegativePrompt =
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低"
    "质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态"
    "畸形的"
    "肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走";

// Glitches repaired as ftfy.fix_text does, HTML references resolved twice, white space at the ends
// dropped and elsewhere one blank; upper and lower case stay. UTF-8 -> UTF-8. Throws InputError when
// the prompt is not UTF-8. Source: diffusers pipelines/wan/pipeline_wan.py:prompt_clean.
std::string clean_prompt(std::string_view utf8);

}  // namespace ospnext
