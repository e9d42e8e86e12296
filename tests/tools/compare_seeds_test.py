"""Compares made-up logs with tools/compare_seeds.py."""
import unittest

from tool_case import ToolCase
import compare_seeds


class CompareSeeds(ToolCase):
    def logs(self, name, *seeds):
        """NAME=LOG.csv,... of files with a loss for steps 50, 100, 150, ..."""
        paths = []
        for i, losses in enumerate(seeds):
            paths.append(self.folder / f"{name}-{i}.csv")
            rows = "".join(f"{50 * (j + 1)},0.1,{loss}\n" for j, loss in enumerate(losses))
            paths[-1].write_text("step,learning_rate,loss\n" + rows)
        return f"{name}=" + ",".join(map(str, paths))

    def main(self, *arguments):
        return self.call(compare_seeds, self.folder / "curves.svg", *arguments)

    def test_means_within_all_spreads_are_said_so_and_drawn(self):
        status, out, _ = self.main(self.logs("one", [4, 2, 2, 1], [3, 3, 3, 2]),
                                   self.logs("mesh", [9, 2.1, 2, 1.1], [9, 2.9, 3, 1.9]))
        self.assertEqual(status, 0, out)
        self.assertIn("step 100: one 2.5 (2 to 3), mesh 2.5 (2.1 to 2.9): within", out)
        self.assertNotIn("step 50", out)
        self.assertTrue(out.endswith("2 of 2 steps have all means within all spreads\n"))
        picture = (self.folder / "curves.svg").read_text()
        self.assertEqual((picture.count("<polyline"), picture.count("<polygon")), (2, 2))

    def test_a_mean_outside_of_another_spread_is_named(self):
        status, out, _ = self.main(self.logs("one", [4, 2, 2, 1], [3, 3, 3, 2]),
                                   self.logs("mesh", [4, 2.9, 2, 1], [3, 3.9, 3, 2]))
        self.assertEqual(status, 1)
        self.assertIn("): one is outside of mesh; mesh is outside of one\n", out)
        self.assertTrue(out.endswith("1 of 2 steps have all means within all spreads\n"))

    def test_steps_that_a_log_lacks_are_left_out(self):
        status, out, _ = self.main(self.logs("one", [4, 2, 2, 1], [3, 3]), self.logs("mesh", [4, 2], [3, 3, 3]))
        self.assertEqual((status, out.count("step 100"), out.count("step 200")), (0, 1, 0))

    def test_wrong_input_is_one_sentence_and_status_2(self):
        good = self.logs("good", [1, 1], [2, 2])
        lonely, negative = self.logs("lonely", [1, 1]), self.logs("negative", [1, -1], [1, 1])
        short, text = self.logs("short", [1], [1]), self.logs("text", [1, "x"], [1, 1])
        for wrong, words in [((good,), "found 1 configuration(s), expected 2 to 6"),
                             ((good, good), "with a new name"),
                             ((good, "x"), "found 'x', expected NAME=LOG.csv,LOG.csv"),
                             ((good, "x=/absent,/absent"), "/absent: cannot be read"),
                             ((good, lonely), "lonely: found one log"),
                             ((good, negative), "step 100: found loss -1.0"),
                             ((good, short), "no common step that is a multiple of 100"),
                             ((good, text), "not a whole step and numbers"),
                             ((good, good, "--column=norm"), "found no column norm"),
                             ((good, "--every=0"), "--every: found 0")]:
            status, _, errors = self.main(*wrong)
            self.assertEqual((status, errors.count("\n")), (2, 1), errors)
            self.assertIn(words, errors)
            self.assertTrue(errors.startswith("compare_seeds: error: "))


if __name__ == "__main__":
    unittest.main()
