// Cleaning of a prompt before it is tokenised.
#pragma once

#include <string>
#include <string_view>

namespace ospnext {

// The default negative prompt of Wan2.1 and OSP-Next.
// Source: Wan2.1 wan/configs/shared_config.py:sample_neg_prompt.
inline constexpr std::string_view kDefaultNegativePrompt =
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低"
    "质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态"
    "畸形的"
    "肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走";

// Cleans a prompt: repairs encoding errors as ftfy.fix_text does, resolves HTML references twice,
// removes white space at both ends and replaces other white space by one blank. Keeps upper and
// lower case. UTF-8 -> UTF-8. Throws InputError when the prompt is not UTF-8.
// Source: diffusers pipelines/wan/pipeline_wan.py:prompt_clean.
std::string clean_prompt(std::string_view utf8);

}  // namespace ospnext
