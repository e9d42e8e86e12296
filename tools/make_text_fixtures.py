"""Makes tests/fixtures/text: what transformers, sentencepiece, ftfy and html give for text inputs.

Run from the repository root with an environment that has torch, transformers 4.57, sentencepiece, ftfy 6.3.1
and safetensors. Seeded; the same versions give the same files.
"""

import html
import io
import json
import re
import warnings
from pathlib import Path

import ftfy
import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from text_fixture_strings import cleaning_strings, tokenizer_strings, training_captions

FOLDER = Path("tests/fixtures/text")
EXTRA_IDS = 300


def wan_name(name):
    """transformers name -> Wan name."""
    for pattern, replacement in [
        (r"^shared\.weight$", "token_embedding.weight"),
        (r"^encoder\.final_layer_norm\.", "norm."),
        (r"^encoder\.block\.", "blocks."),
        (r"\.layer\.0\.layer_norm\.", ".norm1."),
        (r"\.layer\.1\.layer_norm\.", ".norm2."),
        (r"\.layer\.0\.SelfAttention\.relative_attention_bias\.", ".pos_embedding.embedding."),
        (r"\.layer\.0\.SelfAttention\.", ".attn."),
        (r"\.layer\.1\.DenseReluDense\.wi_0\.", ".ffn.gate.0."),
        (r"\.layer\.1\.DenseReluDense\.wi_1\.", ".ffn.fc1."),
        (r"\.layer\.1\.DenseReluDense\.wo\.", ".ffn.fc2."),
    ]:
        name = re.sub(pattern, replacement, name)
    return name


def make_umt5():
    torch.manual_seed(31)
    sizes = dict(vocab_size=96, d_model=32, d_kv=12, d_ff=40, num_layers=3, num_heads=4)
    model = UMT5EncoderModel(UMT5Config(**sizes, feed_forward_proj="gated-gelu", dropout_rate=0.0)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                parameter.normal_(0, 1)  # large enough for one wrong bucket to show
            elif "layer_norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif "shared" in name:
                parameter.normal_(0, 0.02)  # small enough for epsilon to show
    ids = torch.randint(1, 96, (4, 160))
    lengths = [160, 1, 37, 130]
    mask = torch.stack([(torch.arange(160) < n).long() for n in lengths])
    ids = ids * mask
    output = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    direction = torch.randn_like(output)
    (output * direction).sum().backward()
    tensors = {"ids": ids, "mask": mask, "output": output.detach(), "direction": direction}
    for name, parameter in model.named_parameters():
        tensors["weight:" + wan_name(name)] = parameter.detach().clone()
        tensors["gradient:" + wan_name(name)] = parameter.grad.clone()
    half = UMT5EncoderModel(model.config).eval()
    half.load_state_dict(model.state_dict())
    half = half.to(torch.bfloat16)
    with torch.no_grad():
        tensors["output_bf16"] = half(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, FOLDER / "umt5.safetensors")
    config = model.config.to_dict()
    config.pop("transformers_version", None)
    (FOLDER / "umt5_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def train_tokenizer(path, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_captions()), model_writer=model, model_type="unigram",
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, num_threads=1, minloglevel=2,
        hard_vocab_limit=False, **options)
    path.write_bytes(model.getvalue())


def token_cases(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = T5TokenizerFast(vocab_file=str(path), extra_ids=EXTRA_IDS, add_prefix_space=True, legacy=True)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    cases = []
    for text in tokenizer_strings():
        for length in (16, 64):
            tokens = fast(text, max_length=length, padding="max_length", truncation=True)
            cases.append({"text": text, "max_length": length, "fast": tokens["input_ids"],
                          "mask": tokens["attention_mask"], "pieces": pieces.encode(text)})
    return cases


def make_tokenizers():
    train_tokenizer(FOLDER / "nfkc.model", vocab_size=300, normalization_rule_name="nmt_nfkc",
                    user_defined_symbols=["<scene>"])
    train_tokenizer(FOLDER / "bytes.model", vocab_size=500, normalization_rule_name="identity",
                    byte_fallback=True)
    cases = {name: token_cases(FOLDER / name) for name in ("nfkc.model", "bytes.model")}
    (FOLDER / "tokens.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def clean(text):
    """Source: diffusers pipelines/wan/pipeline_wan.py:prompt_clean."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


def make_cleaning():
    cases = [[text, ftfy.fix_text(text), html.unescape(text), clean(text)] for text in cleaning_strings()]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (FOLDER / "cleaning.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_umt5()
    make_tokenizers()
    make_cleaning()
