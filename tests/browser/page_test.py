"""The page of `ospnext serve` in a real browser: Debian's Chromium against a running server.

usage: page_test.py PROGRAM [TEST ...]     PROGRAM: a built ospnext; `make test-browser` runs it
"""
import pathlib
import sys
import tempfile
import time
import unittest
import urllib.error

from running_server import RunningServer
from webdriver import Browser, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
AXE = ROOT / ".deps/browser/axe.min.js"
PROGRAM = ""
TAB, CONTROL, ENTER, ESCAPE = "\ue004", "\ue009", "\ue007", "\ue00c"
LONG = {"num_inference_steps": 100}  # of the model's own size: no test waits for its end


class PageTest(unittest.TestCase):
    """A browser for all tests of a class; each has a page of its own: servers' ports differ."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.browser = Browser(cls.folder / "browser")
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.browser.show_as(1280, 900)
        self.browser.console()

    def open_server(self, **options):
        self.server = RunningServer(PROGRAM, self.folder / self.id(), **options)
        self.addCleanup(self.server.kill)
        self.browser.open(self.server.address)

    def find(self, selector):
        return self.browser.find(selector)

    def shows(self, selector, text, seconds=60):
        """Waits until the element has this text."""
        wait_until(lambda: text in self.find(selector).text, f"'{text}' in {selector}", seconds)

    def fill_form(self, prompt, **fields):
        wait_until(lambda: self.find("#model").text, "the model's name")
        self.find("#prompt").fill(prompt)
        self.browser.run("document.querySelector('#more').open = true")
        for name, value in fields.items():
            self.find(f"#{name}").fill(str(value))

    def make(self, prompt, **fields):
        self.fill_form(prompt, **{"num_inference_steps": 2, **fields})
        if fields != LONG:
            self.choose_shortest()
        before = len(self.cards())
        self.find("#make").click()
        wait_until(lambda: len(self.cards()) > before, "a card")

    def choose_shortest(self):
        """Chooses the smallest and shortest video that the page offers."""
        self.browser.run("""
            for (const name of ["size", "num_frames"]) {
              const field = document.querySelector(`#${name}`);
              const size = option => option.value.split("x").reduce((a, b) => a * b);
              field.value = [...field.options].sort((a, b) => size(a) - size(b))[0].value;
              field.dispatchEvent(new Event("input", {bubbles: true}));
            }""")

    def cards(self):
        return self.browser.find_all("#gallery > li")

    def wait_for(self, status, seconds=120):
        """Waits until the newest card has this status."""
        wait_until(lambda: self.browser.find_all(f"#gallery > li.{status}:first-child"), status,
                   seconds)

    def press(self, action):
        self.find(f"#gallery > li:first-child [data-action={action}]").click()

    def newest(self):
        return self.server.videos()[0]

    def assert_quiet_console(self):
        """Nothing failed in the page, and nothing broke its Content-Security-Policy."""
        self.assertEqual(self.browser.console(), [])


class Making(PageTest):
    def test_a_video_is_made_and_plays(self):
        self.open_server()
        self.make("a red ball on a plain green background", num_inference_steps=6)
        wait_until(lambda: self.browser.run(
            "return document.querySelector('article img').src.startsWith('data:image/')"),
            "a preview")
        self.shows("#gallery .state", "%")
        self.wait_for("completed")
        self.press("play")
        player = self.find("article video")
        times = set()
        wait_until(lambda: times.add(player.property("currentTime")) or len(times) > 3, "playing")
        width, height = map(int, self.newest()["size"].split("x"))
        self.assertEqual([player.property("videoWidth"), player.property("videoHeight")],
                         [width, height])
        self.assert_quiet_console()

    def test_nothing_is_asked_of_other_hosts(self):
        self.open_server()
        self.make("a blue cube")
        self.wait_for("completed")
        names = self.browser.run(
            "return performance.getEntriesByType('resource').map(entry => entry.name)")
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertTrue(name.startswith((self.server.address, f"blob:{self.server.address}",
                                             "data:image/")), name)

    def test_progress_is_told_without_events(self):
        self.open_server()
        self.browser.devtools("Network.enable")
        self.browser.devtools("Network.setBlockedURLs", urls=["*/events"])
        self.addCleanup(self.browser.devtools, "Network.setBlockedURLs", urls=[])
        self.make("a green star", **LONG)
        self.shows("#gallery .state", "left")

    def test_cancelling_frees_the_server_for_the_next(self):
        self.open_server()
        self.make("a slow one", **LONG)
        self.wait_for("in_progress")
        self.press("cancel")
        self.wait_for("cancelled")
        self.assertEqual(self.newest()["status"], "cancelled")
        self.make("a quick one")
        self.wait_for("completed")

    def test_a_reload_in_the_middle_loses_nothing(self):
        self.open_server()
        self.make("a yellow ring", num_inference_steps=12)
        self.wait_for("in_progress")
        self.browser.reload()
        self.wait_for("in_progress", seconds=10)
        self.shows("#gallery .state", "%")
        self.wait_for("completed")
        self.assertEqual(self.find("#prompt").property("value"), "a yellow ring")
        self.assertEqual(self.find("#num_inference_steps").property("value"), "12")
        self.assertEqual(len(self.server.videos()), 1)


class WithOneVideo(PageTest):
    """What can be done with a video that is there; one server makes it for all tests."""

    VIDEO = {"prompt": "a white sphere on a black background", "seed": 9223372036854775807,
             "num_frames": 9, "size": "64x64", "num_inference_steps": 2}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = RunningServer(PROGRAM, cls.folder / "server")
        cls.addClassCleanup(cls.server.kill)

    def setUp(self):
        super().setUp()
        for video in self.server.videos():
            self.server.ask("DELETE", f"/v1/videos/{video['id']}")
        self.server.ask("POST", "/v1/videos", **self.VIDEO)
        self.browser.open(self.server.address)
        self.browser.run("sessionStorage.clear()")
        self.browser.reload()
        self.wait_for("completed")

    def test_remix_keeps_the_seed_and_changes_the_prompt(self):
        first = self.newest()
        self.press("remix")
        self.find("#remix-prompt").fill("a white cone on a black background")
        self.find("#remix-form .primary").click()
        self.wait_for("completed")
        wait_until(lambda: len(self.cards()) == 2, "the remix")
        self.wait_for("completed")
        remix = self.newest()
        self.assertEqual(remix["prompt"], "a white cone on a black background")
        self.assertEqual(remix["remixed_from_video_id"], first["id"])
        self.assertEqual(remix["seed"], first["seed"])

    def test_escape_closes_the_remix_without_making_one(self):
        self.press("remix")
        self.browser.press(ESCAPE)
        wait_until(lambda: not self.find("#remix-dialog").is_shown(), "the dialog to close")
        self.assertEqual(self.browser.run("return document.activeElement.dataset.action"), "remix")
        self.assertEqual(len(self.server.videos()), 1)

    def test_make_again_keeps_all_but_the_seed(self):
        self.press("again")
        wait_until(lambda: len(self.cards()) == 2, "the second video")
        second, first = self.server.videos()
        for name in ("prompt", "size", "num_frames", "num_inference_steps", "guidance_scale"):
            self.assertEqual(second[name], first[name], name)
        self.assertNotEqual(second["seed"], first["seed"])

    def test_download_saves_the_video_under_its_prompt(self):
        self.press("download")
        name = "a-white-sphere-on-a-black-background-9223372036854775807.mp4"
        file = self.browser.downloads / name
        wait_until(file.exists, "the file")
        self.assertEqual(file.read_bytes()[4:8], b"ftyp")

    def test_settings_return_to_the_form_with_every_digit(self):
        self.browser.run("document.querySelector('article details').open = true")
        self.assertIn("9223372036854775807", self.find("dl").text)
        self.fill_form("something else", seed=1)
        self.press("reuse")
        self.assertEqual(self.find("#prompt").property("value"),
                         "a white sphere on a black background")
        self.assertEqual(self.find("#seed").property("value"), "9223372036854775807")
        self.find("#make").click()
        wait_until(lambda: len(self.cards()) == 2, "the same video")
        self.assertEqual([video["seed"] for video in self.server.videos()],
                         [9223372036854775807] * 2)

    def test_delete_asks_first_and_moves_the_focus(self):
        self.press("delete")
        self.browser.answer_dialog(accept=False)
        self.assertEqual(len(self.server.videos()), 1)
        self.press("delete")
        self.browser.answer_dialog()
        wait_until(lambda: not self.cards(), "the card to go")
        self.assertEqual(self.server.videos(), [])
        self.assertEqual(self.browser.run("return document.activeElement.id"), "videos")
        self.assertTrue(self.find("#empty").is_shown())


class WhenSomethingIsWrong(PageTest):
    def test_a_wrong_key_is_refused_and_the_right_one_kept(self):
        self.open_server(needs_key=True)
        wait_until(lambda: self.find("#key").is_shown(), "the form for the key")
        self.shows("#key-reason", "only with a key")
        self.find("#key").type("the-wrong-key" + ENTER)
        self.shows("#key-reason", "does not know this key")
        self.find("#key").fill(self.server.key)
        self.find("#key-form .primary").click()
        self.make("a cube behind a key")
        self.wait_for("completed")
        self.press("play")
        wait_until(lambda: self.find("article video").property("currentTime"), "playing")
        self.browser.reload()
        self.wait_for("completed", seconds=10)
        self.find("#forget-key").click()
        self.shows("#key-reason", "only with a key")
        self.assertFalse(self.find("#make-form").is_shown())

    def test_it_goes_on_when_a_killed_server_returns(self):
        self.open_server()
        self.make("a pink torus", num_inference_steps=12)
        self.wait_for("in_progress")
        self.server.kill()
        self.shows("#alert", "does not answer")
        self.server.start()
        wait_until(lambda: not self.find("#alert").text, "the warning to go")
        self.wait_for("completed")
        self.assertEqual(len(self.server.videos()), 1)

    def test_a_video_asked_for_while_nobody_is_there_is_made_once(self):
        self.open_server()
        self.fill_form("a lonely cube", num_inference_steps=2)
        self.choose_shortest()
        self.server.kill()
        self.find("#make").click()
        self.shows("#alert", "does not answer")
        time.sleep(3)  # more than one attempt
        self.server.start()
        self.wait_for("completed")
        self.assertEqual([video["prompt"] for video in self.server.videos()], ["a lonely cube"])

    def test_a_full_queue_is_said_with_the_time_to_wait(self):
        self.open_server(max_queued=1)
        self.make("the one that runs", **LONG)
        self.wait_for("in_progress")
        self.make("the one that waits")
        self.shows("#gallery > li:first-child .state", "Waiting")
        self.find("#make").click()
        self.shows("#make-error", "queue is full")
        self.assertRegex(self.find("#make-error").text, r"Try again in \d+ (s|min)\.")
        self.assertEqual(self.find("#make-error").role, "alert")

    def test_a_refused_field_is_named_and_focused(self):
        self.open_server()
        self.fill_form("a cube", seed="9999999999999999999")
        self.browser.run("document.querySelector('#more').open = false")
        self.find("#make").click()
        self.shows("#make-error", "Seed")
        self.assertEqual(self.browser.run("return document.activeElement.id"), "seed")
        self.assertEqual(self.browser.run(
            "return document.querySelector('#seed').ariaInvalid"), "true")
        self.assertEqual(self.server.videos(), [])

    def test_a_failed_video_tells_the_reason(self):
        self.open_server()
        wait_until(lambda: self.find("#adapter").is_shown(), "the adapters")
        self.find("#lora option[value=broken]").click()
        self.make("a cube in a style that is not there")
        self.wait_for("failed")
        self.assertRegex(self.find("#gallery .state").text, "Failed: .*broken")


class Gallery(PageTest):
    def test_many_videos_are_on_pages(self):
        self.open_server(max_queued=40)
        for number in range(26):
            video = self.server.ask("POST", "/v1/videos", prompt=f"number {number}", **LONG)
            self.server.ask("POST", f"/v1/videos/{video['id']}/cancel")
        self.browser.reload()
        wait_until(lambda: len(self.cards()) == 24, "a full page")
        self.assertIn("number 25", self.cards()[0].text)
        self.find("#older").click()
        wait_until(lambda: len(self.cards()) == 2, "the second page")
        self.assertIn("number 0", self.cards()[1].text)
        self.find("#newer").click()
        wait_until(lambda: len(self.cards()) == 24, "the first page")


class ForEveryone(PageTest):
    def check(self, state):
        """Throws for a finding of axe that is serious or critical."""
        if not self.browser.run("return 'axe' in window"):
            self.browser.run(AXE.read_text(encoding="utf-8"))
        found = self.browser.run_async("axe.run().then(arguments[arguments.length - 1])")
        self.assertGreater(len(found["passes"]), 10)
        bad = [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}"
               for one in found["violations"] if one["impact"] in ("serious", "critical")]
        self.assertEqual(bad, [], state)

    def check_everywhere(self, state):
        for scheme in ("light", "dark"):
            for width, height, mobile in ((1280, 900, False), (390, 844, True)):
                self.browser.show_as(width, height, mobile=mobile, scheme=scheme, motion=False)
                self.check(f"{state}, {scheme}, {width} wide")
        self.browser.show_as(1280, 900)

    def test_axe_finds_nothing_serious(self):
        self.open_server()
        self.check_everywhere("nothing made")
        self.make("a red cube")
        self.wait_for("completed")
        self.press("play")
        self.browser.run("document.querySelector('article details').open = true")
        self.make("a blue cube", **LONG)
        self.wait_for("in_progress")
        self.make("a green cube")
        self.fill_form("a cube", seed="9999999999999999999")
        self.find("#make").click()
        self.shows("#make-error", "Seed")
        self.check_everywhere("videos in three states, and an error")
        self.find(".completed [data-action=remix]").click()
        self.check_everywhere("the dialog of a remix")

    def test_axe_finds_nothing_serious_in_the_form_for_the_key(self):
        self.open_server(needs_key=True)
        wait_until(lambda: self.find("#key").is_shown(), "the form for the key")
        self.check_everywhere("the form for the key")

    def test_the_keyboard_alone_makes_cancels_and_repeats_a_video(self):
        self.open_server()
        wait_until(lambda: self.find("#model").text, "the model's name")
        self.browser.press(TAB)
        self.assertEqual(self.focused("textContent"), "Skip to the videos")
        self.browser.press(TAB)
        self.assertEqual(self.focused("id"), "prompt")
        self.browser.press(*"a red star")
        self.browser.press_together(CONTROL, ENTER)
        self.wait_for("in_progress")
        self.tab_to("Cancel: a red star")
        self.browser.press(ENTER)
        self.wait_for("cancelled")
        self.assertEqual(self.focused("tagName"), "ARTICLE")  # its button has gone
        self.tab_to("Make again: a red star")
        self.browser.press(ENTER)
        wait_until(lambda: len(self.cards()) == 2, "the second video")

    def focused(self, name):
        return self.browser.run("return document.activeElement[arguments[0]]", name)

    def tab_to(self, label):
        """Presses Tab up to the control with this label; all on the way show their focus."""
        for _ in range(40):
            self.browser.press(TAB)
            outline = self.browser.run(
                "return getComputedStyle(document.activeElement).outlineStyle")
            self.assertNotEqual(outline, "none", self.focused("outerHTML"))
            if self.focused("ariaLabel") == label:
                return
        self.fail(f"Tab does not reach {label}")

    def test_a_screen_reader_hears_what_becomes_of_a_video(self):
        self.open_server()
        self.browser.run("""
            window.heard = [];
            new MutationObserver(() => heard.push(document.querySelector("#news").textContent))
              .observe(document.querySelector("#news"), {childList: true});""")
        self.make("a red star", num_inference_steps=6)
        self.wait_for("completed")
        heard = self.browser.run("return heard")
        self.assertEqual(self.find("#news").role, "status")
        self.assertEqual(heard[0], "In the queue: a red star")
        self.assertRegex(heard[-1], "Made in .*: a red star")
        self.assertLess(len(heard), 5)  # and no progress by the percent

    def test_a_phone_scrolls_in_one_direction_only(self):
        self.open_server()
        self.make("a" * 200)
        for width in (320, 390, 768):
            self.browser.show_as(width, 700, mobile=True)
            self.assertLessEqual(
                self.browser.run("return document.documentElement.scrollWidth"), width)

    def test_nothing_moves_for_those_who_ask_for_it(self):
        self.open_server()
        moving = """return [...document.querySelectorAll("*")].filter(
            node => parseFloat(getComputedStyle(node).transitionDuration) > 0).length"""
        self.assertGreater(self.browser.run(moving), 0)
        self.browser.show_as(1280, 900, motion=False)
        self.assertEqual(self.browser.run(moving), 0)


def main():
    global PROGRAM
    PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
    tests = unittest.main(exit=False, verbosity=2).result
    wrong = len(tests.failures) + len(tests.errors)
    print(f"{tests.testsRun - wrong - len(tests.skipped)} passed, {wrong} failed, "
          f"{len(tests.skipped)} skipped")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
