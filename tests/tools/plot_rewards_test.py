"""Draws made-up logs with tools/plot_rewards.py."""
import unittest

from tool_case import ToolCase
import plot_rewards


class PlotRewards(ToolCase):
    def log(self, name, rewards, seconds=10):
        path = self.folder / f"{name}.csv"
        path.write_text("step,reward/world_mean,seconds_per_step\n" +
                        "".join(f"{i + 1},{reward},{seconds}\n" for i, reward in enumerate(rewards)))
        return str(path)

    def main(self, *arguments):
        return self.call(plot_rewards, self.folder / "rewards.svg", *arguments)

    def test_a_point_is_the_mean_of_the_window_before_it(self):
        fast, slow = self.log("fast", [-1, 1, 3, 5]), self.log("slow", [0, 2], seconds=20)
        status, out, errors = self.main(f"a={fast},{slow}", f"b={slow}", "--window=20")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn(f"a: {fast}: 0.0000 at 20 s, 4.0000 at 40 s\n", out)
        self.assertIn(f"b: {slow}: 0.0000 at 20 s, 2.0000 at 40 s\n", out)
        picture = (self.folder / "rewards.svg").read_text()
        self.assertEqual(picture.count("<polyline"), 3)
        self.assertIn(">40 s</text>", picture)

    def test_wrong_input_is_one_sentence_and_status_2(self):
        good, text = self.log("good", [1, 2]), self.log("text", [1, "x"])
        for wrong, words in [(("x",), "found 'x', expected NAME=LOG.csv,LOG.csv"),
                             (("x=/absent",), "/absent: cannot be read"),
                             ((f"x={text}",), "not a whole step and numbers"),
                             ((f"x={good}", "--column=reward/other_mean"), "found no column reward/other_mean"),
                             ((f"x={good}",), "found 20 seconds, expected at least the window's 60"),
                             ((f"x={good}", "--window=0"), "--window: found 0.0"),
                             (tuple(f"{i}={good}" for i in range(7)), "found 7 names, expected at most 6")]:
            status, _, errors = self.main(*wrong)
            self.assertEqual((status, errors.count("\n")), (2, 1), errors)
            self.assertIn(words, errors)
            self.assertTrue(errors.startswith("plot_rewards: error: "))


if __name__ == "__main__":
    unittest.main()
