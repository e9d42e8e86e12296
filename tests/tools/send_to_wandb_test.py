"""Reads logs with tools/send_to_wandb.py and sends them to a stand-in for Weights & Biases."""
import contextlib
import io
import pathlib
import sys
import tempfile
import types
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import send_to_wandb  # noqa: E402

HEADER = "step,learning_rate,loss\n"


class FakeRun:
    def __init__(self, **options):
        self.options, self.rows, self.finished = options, [], 0

    def log(self, row, step):
        assert not self.finished and (not self.rows or step > self.rows[-1][0]), "W&B would drop the row"
        self.rows.append((step, row))

    def finish(self):
        self.finished += 1


class SendToWandb(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = pathlib.Path(folder.name, "a run", "log.csv")
        self.log.parent.mkdir()
        self.runs = []

    def rows(self, text):
        self.log.write_text(text)
        return send_to_wandb.read_rows(self.log)

    def start_run(self, *number, **options):
        self.runs.append(FakeRun(**options))
        return self.runs[-1]

    def main(self, *arguments, wandb):
        """Exit status and what is printed as an error."""
        errors = io.StringIO()
        with mock.patch.dict(sys.modules, {"wandb": wandb}), contextlib.redirect_stderr(errors), \
                mock.patch.object(sys, "argv", ["send_to_wandb", *map(str, arguments)]):
            return send_to_wandb.main(), errors.getvalue()

    def follow(self, *texts):
        """Sends while the log has each of these contents in turn (None: no file), until Ctrl-C."""
        texts = iter(texts)

        def next_text(seconds):
            text = next(texts, ...)
            if text is ...:
                raise KeyboardInterrupt
            self.log.unlink(missing_ok=True)
            if text is not None:
                self.log.write_text(text)

        next_text(0)
        with mock.patch("time.sleep", next_text), self.assertRaises(KeyboardInterrupt):
            send_to_wandb.send(self.log, self.start_run, follow=True)
        self.assertEqual([run.finished for run in self.runs], [1] * len(self.runs))

    def steps(self):
        return [[step for step, _ in run.rows] for run in self.runs]

    def test_a_log_of_a_training_is_read(self):
        rows = send_to_wandb.read_rows(ROOT / "docs/tiny_model/train_log.csv")
        self.assertEqual(rows[0], {"step": 50, "learning_rate": 0.0002, "seconds_per_step": 0.153482, "loss": 1.82603,
                                   "gradient_norm": 0.590722})
        self.assertGreater(len(rows), 100)

    def test_empty_cell_is_no_value(self):
        rows = self.rows("step,loss,validation_loss\n5,2,\n10,1,3\n")
        self.assertEqual(rows, [{"step": 5, "loss": 2.0}, {"step": 10, "loss": 1.0, "validation_loss": 3.0}])

    def test_unfinished_line_waits(self):
        self.assertEqual(self.rows("st"), [])
        self.assertEqual(self.rows(HEADER), [])
        self.assertEqual(self.rows(HEADER + "5,0.1,2"), [])
        self.assertEqual(self.rows(HEADER + "5,0.1,2\n10,0."), [{"step": 5, "learning_rate": 0.1, "loss": 2.0}])

    def test_step_that_goes_back_replaces_later_rows(self):
        rows = self.rows(HEADER + "5,1,1\n10,1,2\n15,1,3\n10,1,4\n20,1,5\n")
        self.assertEqual([(row["step"], row["loss"]) for row in rows], [(5, 1), (10, 4), (20, 5)])

    def test_bad_lines_are_refused_in_one_sentence(self):
        for text, words in [("loss,step\n", "found 'loss,step' in line 1, expected names"),
                            ("\n", "found '' in line 1"),
                            (HEADER + "5,1,1\n10,1,x\n", "found '10,1,x' in line 3, expected a whole step and 2 finite"),
                            (HEADER + "5,1\n", "found '5,1' in line 2"),
                            (HEADER + "5,1,1,1\n", "found '5,1,1,1' in line 2"),
                            (HEADER + "5.5,1,1\n", "found '5.5,1,1' in line 2"),
                            (HEADER + "5,1,nan\n", "found '5,1,nan' in line 2")]:
            with self.assertRaises(send_to_wandb.BadInput) as caught:
                self.rows(text)
            self.assertTrue(str(caught.exception).startswith(f"{self.log}: {words}"), caught.exception)

    def test_finished_log_is_sent_whole(self):
        self.log.write_text(HEADER + "5,0.1,2\n10,0.1,1\n")
        wandb = types.SimpleNamespace(init=self.start_run, Error=RuntimeError)
        self.assertEqual(self.main(self.log.parent, "--project", "p", wandb=wandb), (0, ""))
        run, = self.runs
        self.assertEqual(run.options, {"project": "p", "group": "a run", "name": "a run"})
        self.assertEqual(run.rows, [(5, {"learning_rate": 0.1, "loss": 2.0}), (10, {"learning_rate": 0.1, "loss": 1.0})])
        self.assertEqual(run.finished, 1)

    def test_following_sends_new_rows_once(self):
        self.follow(None, "", HEADER + "5,1,1\n", HEADER + "5,1,1\n10,1,", HEADER + "5,1,1\n10,1,2\n15,1,3\n")
        self.assertEqual(self.steps(), [[5, 10, 15]])

    def test_rows_that_a_resumed_training_replaced_go_to_a_new_run(self):
        before, kept = HEADER + "5,1,1\n10,1,2\n15,1,3\n", HEADER + "5,1,1\n"
        self.follow(before, "", kept, kept + "10,1,4\n", kept + "10,1,4\n15,1,5\n20,1,6\n")
        self.assertEqual(self.steps(), [[5, 10, 15], [5, 10, 15, 20]])
        self.assertEqual([row["loss"] for _, row in self.runs[1].rows], [1, 4, 5, 6])

    def test_wrong_input_is_one_sentence_and_status_2(self):
        options, absent = ("--project", "p"), self.log.parent / "absent"
        cases = [(absent, (), f"{absent}/log.csv: found no such file"),
                 (absent, ("--follow",), f"{absent}/log.csv: found no such file"),
                 (self.log.parent, (), f"{self.log}: found no such file")]
        for folder, more, words in cases:
            status, errors = self.main(folder, *options, *more, wandb=None)
            self.assertEqual((status, errors.count("\n")), (2, 1), errors)
            self.assertIn("send_to_wandb: error: " + words, errors)
        self.log.write_text(HEADER)
        self.assertIn("found no row", self.main(self.log.parent, *options, wandb=None)[1])
        self.log.write_bytes(b"step,\xff\n")
        self.assertIn("cannot be read", self.main(self.log.parent, *options, wandb=None)[1])

    def test_missing_wandb_or_login_is_one_sentence(self):
        self.log.write_text(HEADER + "5,1,1\n")
        status, errors = self.main(self.log.parent, "--project", "p", wandb=None)
        self.assertEqual((status, errors.count("\n")), (2, 1), errors)
        self.assertIn("pip install wandb", errors)
        wandb = types.SimpleNamespace(init=mock.Mock(side_effect=RuntimeError("no key")), Error=RuntimeError)
        self.assertEqual(self.main(self.log.parent, "--project", "p", wandb=wandb),
                         (2, "send_to_wandb: error: Weights & Biases starts no run: no key\n"))


if __name__ == "__main__":
    unittest.main()
