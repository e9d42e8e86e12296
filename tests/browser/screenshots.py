"""Draws the pictures of the page in docs/pictures/, with videos of the shipped model.

usage: screenshots.py PROGRAM FOLDER     PROGRAM: a built ospnext; takes some minutes
"""
import pathlib
import sys
import tempfile

from running_server import RunningServer
from webdriver import Browser, wait_until

PROMPTS = ("a large yellow star moving right on a plain teal background",
           "a large white ring bouncing on a plain brown background")
IN_PROGRESS = "a large blue circle orbiting on a plain pink background"


def main():
    program, folder = (pathlib.Path(name).resolve() for name in sys.argv[1:])
    with tempfile.TemporaryDirectory() as scratch:
        server = RunningServer(program, pathlib.Path(scratch) / "server", preview=10)
        browser = Browser(pathlib.Path(scratch) / "browser")
        try:
            for number, prompt in enumerate(PROMPTS):
                server.ask("POST", "/v1/videos", prompt=prompt, seed=number)
            wait_until(lambda: all(video["status"] == "completed" for video in server.videos()),
                       "the videos", 1800)
            server.ask("POST", "/v1/videos", prompt=IN_PROGRESS, seed=7)
            browser.show_as(1280, 650, scale=0.9)
            browser.open(server.address)
            browser.find("#prompt").type(IN_PROGRESS)
            wait_until(lambda: browser.run(
                "return document.querySelector('.in_progress progress')?.value > 40"),
                "progress", 600)
            wait_until(lambda: browser.run(
                "return document.querySelector('.in_progress img')?.src"), "a preview")
            browser.screenshot(folder / "page_desktop.png")
            browser.show_as(360, 740, mobile=True, scheme="dark")
            browser.run("document.querySelector('#gallery > li').scrollIntoView()")
            browser.screenshot(folder / "page_phone.png")
        finally:
            browser.close()
            server.kill()


if __name__ == "__main__":
    main()
