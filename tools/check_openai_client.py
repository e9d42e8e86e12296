#!/usr/bin/env python3
"""Runs the video methods of the `openai` package against a server of its own.

  python -m pip install -r tools/requirements-openai.txt
  tools/check_openai_client.py PROGRAM [MODEL]     PROGRAM: a built ospnext; MODEL: models/tiny
"""
import base64
import contextlib
import http.server
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import openai

from own_server import served

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
SMALL = {"num_frames": 5, "num_inference_steps": 3, "seed": 7}


@contextlib.contextmanager
def served_with_key(program, model, folder, hooks):
    """The URL of a server with one key and a place for webhooks, and the key."""
    made = subprocess.run([program, "serve", "--new-key", "me"], check=True, capture_output=True,
                          text=True).stdout
    key, line = (text.split(None, 1)[1] for text in made.splitlines())
    (folder / "keys").write_text(line + "\n", encoding="utf-8")
    (folder / "secret").write_text(SECRET, encoding="utf-8")
    with served(program, folder / "data", "--keys", folder / "keys", "--webhooks", hooks,
                "--webhook-secret", folder / "secret", model=model) as (url, _):
        yield url, key


@contextlib.contextmanager
def receiver():
    """The address of a server that keeps the webhooks it gets, and these: (body, headers)."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


def check_webhook(client, hooks, got):
    video = client.videos.create_and_poll(prompt="a", extra_body={**SMALL, "webhook_url": hooks + "/x"})
    end = time.monotonic() + 10
    while not got and time.monotonic() < end:
        time.sleep(0.1)
    (body, headers), = got
    event = client.webhooks.unwrap(body, headers, secret=SECRET)
    assert event.type == "video.completed" and event.data.id == video.id, event
    refusal(lambda: client.webhooks.unwrap(body + b" ", headers, secret=SECRET),
            openai.InvalidWebhookSignatureError)


def refusal(call, kind):
    """The error of this kind that a call gets."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def check(client):
    made = client.videos.create_and_poll(prompt="a red ball", size="64x64", extra_body=SMALL)
    assert made.status == "completed" and made.progress == 100, made
    assert made.size == "64x64" and made.object == "video" and made.error is None, made
    video = client.videos.download_content(made.id).read()
    assert video[4:8] == b"ftyp", video[:16]
    for variant in ("thumbnail", "spritesheet"):
        assert client.videos.download_content(made.id, variant=variant).read()[1:4] == b"PNG"
    four = client.videos.create(prompt="long", seconds="4", model=made.model)
    assert four.seconds == "4" and four.to_dict()["num_frames"] == 65, four
    remixed = client.videos.remix(made.id, prompt="a blue ball")
    assert remixed.remixed_from_video_id == made.id and remixed.to_dict()["seed"] == 7, remixed
    assert [video.id for video in client.videos.list(limit=2)] == [remixed.id, four.id, made.id]
    assert [video.id for video in client.videos.list(order="asc").data][0] == made.id
    assert client.videos.poll(remixed.id).status in ("queued", "in_progress", "completed")
    assert client.videos.retrieve(made.id).id == made.id
    for video in (four, remixed, made):
        assert client.videos.delete(video.id).deleted
    refusal(lambda: client.videos.retrieve(made.id), openai.NotFoundError)
    with_picture = refusal(lambda: client.videos.create(prompt="a", input_reference=b"\x89PNG"),
                           openai.BadRequestError)
    assert with_picture.param == "input_reference", with_picture
    wrong_size = refusal(lambda: client.videos.create(prompt="a", size="720x1281"),
                         openai.BadRequestError)
    assert "multiples of 16" in wrong_size.message, wrong_size
    assert client.models.list().data[0].id == made.model
    assert client.models.retrieve(made.model).id == made.model
    refusal(lambda: client.models.retrieve("sora-2"), openai.NotFoundError)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder, receiver() as (hooks, got):
        model = sys.argv[2] if len(sys.argv) == 3 else "models/tiny"
        with served_with_key(sys.argv[1], model, pathlib.Path(folder), hooks) as (url, key):
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
            check(client)
            check_webhook(client, hooks, got)
            stranger = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
            refusal(stranger.models.list, openai.AuthenticationError)
    print(f"openai {openai.__version__}: all video methods work, and so do webhooks")


if __name__ == "__main__":
    main()
