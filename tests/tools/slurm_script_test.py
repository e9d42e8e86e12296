"""Runs the batch script of docs/training_hosts.md with stand-ins for Slurm's commands.

  slurm_script_test.py PROGRAM        a built ospnext
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
SCRIPT = re.search(r"^```text\n(#!/bin/bash\n.*?)^```$",
                   (ROOT / "docs/training_hosts.md").read_text(encoding="utf-8"), re.M | re.S)[1]
# Runs what srun would start, once and with a file of flags that is not there; then ends as told.
SRUN = """#!/bin/bash
while [ "$1" != ospnext ]; do shift; done
"$@" --config not-there.json 2> said
exit "$STATUS"
"""
SCONTROL = '#!/bin/bash\necho "$@" > requeued\n'


class SlurmScript(unittest.TestCase):
    def run_script(self, status, program="/bin/true"):
        """(exit status, what srun's command said, what scontrol was told)"""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            files = {"srun": SRUN, "scontrol": SCONTROL, "train.sbatch": SCRIPT}
            for command, text in files.items():
                (folder / command).write_text(text, encoding="utf-8")
                (folder / command).chmod(0o755)
            (folder / "ospnext").symlink_to(program)
            done = subprocess.run(
                ["bash", "train.sbatch"], cwd=folder, check=False,
                env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "STATUS": str(status),
                     "SLURM_JOB_ID": "4711", "SLURM_CPUS_PER_TASK": "12"})
            requeued = folder / "requeued"
            return (done.returncode, (folder / "said").read_text(),
                    requeued.read_text() if requeued.exists() else "")

    def test_its_flags_exist(self):
        self.assertRegex(self.run_script(0, PROGRAM)[1], "(?i)not-there.json.*no such file")

    def test_it_goes_on_after_a_signal_alone(self):
        self.assertEqual(self.run_script(130)[::2], (130, "requeue 4711\n"))
        for status in (0, 1, 2):
            self.assertEqual(self.run_script(status)[::2], (status, ""))


if __name__ == "__main__":
    unittest.main()
