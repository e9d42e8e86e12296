"""Compares made-up details of evaluations with tools/compare_evals.py."""
import unittest

from tool_case import ToolCase
import compare_evals

HEADER = "captions,seed,caption,background,colour,size,shape,motion,all five,measured\n"


class CompareEvals(ToolCase):
    def write(self, name, *rows):
        file = self.folder / name
        file.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
        return str(file)

    def run_tool(self, before, after):
        return self.call(compare_evals, "--before", *before, "--after", *after)

    def test_differences_are_paired_and_have_their_interval(self):
        # Shape is wrong and becomes right in one of four clips: 25 +- 1.96 * 100 * sqrt(3 / 16 / 4).
        before = self.write("b.csv", *(f'"seen",{i},"a star",1,1,1,{i % 2},1,{i % 2},""' for i in range(4)))
        after = self.write("a.csv", *(f'"seen",{i},"a star",1,1,1,{i % 2 or i == 0:d},1,{i % 2 or i == 0:d},""'
                                      for i in reversed(range(4))))
        status, out, errors = self.run_tool([before], [after])
        self.assertEqual((status, errors), (0, ""))
        changed = "+25.0 (-17.4 to +67.4)"
        same = "+0.0 (+0.0 to +0.0)"
        self.assertIn(f"| seen | 4 | {same} | {same} | {same} | {changed} | {same} | {changed} | +5.0 (-3.5 to +13.5) |",
                      out)

    def test_both_rows_of_two_objects_are_also_counted_together(self):
        rows = ['"two objects, seen",1,"x",0,0,0,0,0,0,""', '"two objects, held out",2,"y",1,1,1,1,1,1,""']
        files = [self.write("b.csv", *rows)], [self.write("a.csv", *rows)]
        self.assertIn("| two objects, both | 2 |", self.run_tool(*files)[1])

    def test_other_clips_and_other_files_are_refused(self):
        one = self.write("one.csv", '"seen",1,"a star",1,1,1,1,1,1,""')
        other = self.write("other.csv", '"seen",2,"a star",1,1,1,1,1,1,""')
        log = self.folder / "log.csv"
        log.write_text("step,loss\n1,0.5\n", encoding="utf-8")
        for before, after, part in ((one, other, "have other captions or noise"),
                                    (one, str(log), "something else than the --details"),
                                    (str(self.folder / "none.csv"), one, "cannot be read")):
            status, out, errors = self.run_tool([before], [after])
            self.assertEqual((status, out), (2, ""), errors)
            self.assertTrue(errors.startswith("compare_evals: error: "))
            self.assertIn(part, errors)


if __name__ == "__main__":
    unittest.main()
