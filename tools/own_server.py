"""A server of videos that a check starts for itself, for the checks in this folder."""
import contextlib
import subprocess


@contextlib.contextmanager
def served(program, data, *flags, model="models/tiny", log=None):
    """Runs `ospnext serve` with its database in `data`. Gives its URL and its process."""
    command = [program, "serve", "--model", model, "--data", data, "--port", "0", *flags]
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=log,
                          text=True) as process:
        try:
            yield process.stdout.readline().split()[-1], process
        finally:
            process.terminate()
