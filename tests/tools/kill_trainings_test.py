"""Runs tools/kill_trainings.py with few kills of a tiny training.

    kill_trainings_test.py PROGRAM    PROGRAM: a built ospnext
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
TRANSFORMER = {"dim": 32, "ffn_dim": 64, "freq_dim": 32, "in_dim": 16, "out_dim": 16, "num_heads": 2, "num_layers": 2,
               "text_len": 96, "text_dim": 16, "skiparse_model_type": "uniform", "sparse_ratio": 2,
               "num_full_blocks": 0}
TEXT_ENCODER = {"model_type": "umt5", "vocab_size": 640, "d_model": 16, "num_heads": 1, "d_kv": 16, "d_ff": 32,
                "num_layers": 1, "feed_forward_proj": "gated-gelu"}
FLAGS = "--sizes 32x32 --clips 8 --batch-size 2 --steps 30 --warmup-steps 1 --checkpoint-interval 3".split()


def run(*arguments):
    return subprocess.run([sys.executable, "tools/kill_trainings.py", *arguments], cwd=ROOT, check=False,
                          capture_output=True, text=True, timeout=300)


def expect(holds, done):
    if not holds:
        sys.exit(f"status {done.returncode}\n{done.stdout}{done.stderr}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for part, config in (("transformer", TRANSFORMER), ("text_encoder", TEXT_ENCODER)):
            (folder / f"{part}.json").write_text(json.dumps(config), encoding="utf-8")
        flags = [*FLAGS, "--transformer-config", str(folder / "transformer.json"), "--text-encoder-config",
                 str(folder / "text_encoder.json"), "--latent-cache", str(folder / "latents.safetensors")]
        done = run("--program", sys.argv[1], "--kills", "2", "--", *flags)
        expect(done.returncode == 0 and "1 process(es): 2 kills" in done.stdout
               and "files equal bit for bit" in done.stdout, done)
        done = run("--program", sys.argv[1], "--kills", "1", "--", *flags, "--nonsense")
        expect(done.returncode == 1 and "ended with status 2; it printed: ospnext: error:" in done.stderr, done)
        done = run("--program", str(folder / "absent"))
        expect(done.returncode == 2 and "found no program" in done.stderr, done)


if __name__ == "__main__":
    main()
